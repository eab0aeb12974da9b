//! The lists that servers have.

/// Something that servers list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `tasks/list`.
    Tasks,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tools,
        Self::Prompts,
        Self::Resources,
        Self::Templates,
        Self::Tasks,
    ];

    /// Those whose changes are announced, by one notification each.
    pub const ANNOUNCED: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    /// Returns the method that lists them.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Tasks => "tasks/list",
        }
    }

    /// Returns the member of the result that has them.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Tasks => "tasks",
        }
    }

    /// Returns the capability of the servers that list them.
    #[must_use]
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
            Self::Tasks => "tasks",
        }
    }

    /// Finds the kind that a method lists.
    #[must_use]
    pub fn listed_by(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// Finds the kind whose list has changed, by the notification of that.
    #[must_use]
    pub fn changed_by(method: &str) -> Option<Self> {
        let of = method
            .strip_prefix("notifications/")?
            .strip_suffix("/list_changed")?;
        Self::ANNOUNCED
            .into_iter()
            .find(|kind| kind.capability() == of)
    }
}
