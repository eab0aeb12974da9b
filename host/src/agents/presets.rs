//! Agents that are known by name: how each is started in model mode, and the notice that a person reads before its
//! first use.
//!
//! *Model mode* means that the agent answers as a plain model: its own instructions and tools are off, its working
//! directory is empty, and it gets no permission. Where an agent cannot switch something off, its notice says so.

use crate::installed::find_program;
use std::ffi::OsStr;
use std::path::PathBuf;

/// Placeholder for the directory of the agent's own files, in values of [`Preset::environment`] and
/// [`Preset::arguments`].
pub const FILES: &str = "{files}";

/// One agent that is known by name.
#[derive(Debug)]
pub struct Preset {
    /// Its name in configuration and on the command line.
    pub name: &'static str,
    /// The product's name, for people.
    pub title: &'static str,
    /// Names that its program may have, the usual one first.
    pub programs: &'static [&'static str],
    /// Arguments that make it speak the Agent Client Protocol, in model mode as far as arguments can.
    pub arguments: &'static [&'static str],
    /// Variables that are set for it.
    pub environment: &'static [(&'static str, &'static str)],
    /// The variable that holds headers for the requests to its model, and the separator between two headers. The agent
    /// is told to send [`AGENT_HEADER`](mcp_local_provider_core::api::AGENT_HEADER), so that this program recognises an
    /// agent that is configured to ask it.
    pub headers: Option<(&'static str, &'static str)>,
    /// Variables of this program's environment that it may see beyond those that every program needs: its login and the
    /// address of its model. A name that ends in `*` stands for all with that prefix.
    pub passes: &'static [&'static str],
    /// Name and content of the files that are written for it.
    pub files: &'static [(&'static str, &'static str)],
    /// Shell command that installs it.
    pub install: &'static str,
    /// Advice on logging in, as the end of a sentence.
    pub login: &'static str,
    /// Text that a person reads before the first use: the limits of model mode, and the terms under which the agent is
    /// used.
    pub notice: &'static str,
    /// Address of its documentation.
    pub source: &'static str,
}

/// Instructions that replace the agent's own, for the presets that can replace them.
pub(super) const MODEL_PROMPT: &str = "\
You are a language model behind an API. Each message carries a conversation and, at its head, the instructions for it. \
Follow those instructions and answer the last message of the conversation, with nothing before or after the answer. \
You have no tools but those that are offered to you, no files and no project.";

/// OpenCode's configuration: one agent without tools of its own. The caller's tools come from the MCP server `caller`.
const OPENCODE: &str = r#"{
  "$schema": "https://opencode.ai/config.json",
  "autoupdate": false,
  "share": "disabled",
  "agent": {
    "model": {
      "mode": "primary",
      "description": "Answers as a language model, without tools of its own",
      "prompt": "{file:./model.md}",
      "tools": { "*": false, "caller_*": true },
      "permission": { "edit": "deny", "bash": "deny", "webfetch": "deny" }
    }
  }
}
"#;

/// Gemini CLI's settings. They exclude every known tool by name, because a list of allowed tools would also exclude the
/// caller's. They are in a home directory of their own, because the person's home may add tools, servers and
/// instructions, and settings that override those of the home are read only from directories of the superuser.
const GEMINI: &str = r#"{
  "tools": {
    "exclude": [
      "activate_skill", "ask_user", "codebase_investigator", "enter_plan_mode", "exit_plan_mode", "generalist", "get_internal_docs",
      "glob", "google_web_search", "grep_search", "invoke_agent", "list_background_processes", "list_directory",
      "list_mcp_resources", "read_background_output", "read_file", "read_many_files", "read_mcp_resource", "replace",
      "run_shell_command", "save_memory", "search_file_content", "tracker_create_task", "tracker_list_tasks",
      "tracker_update_task", "update_topic", "web_fetch", "write_file", "write_todos"
    ]
  },
  "general": { "enableAutoUpdate": false }
}
"#;

/// Cursor's permissions. Reading and writing are denied too: the working directory is empty, but the person's home is
/// not.
const CURSOR: &str = r#"{
  "version": 1,
  "editor": { "vimMode": false },
  "permissions": { "allow": [], "deny": ["Shell(*)", "Read(**)", "Write(**)"] }
}
"#;

/// All presets, in the order in which they are shown.
pub static ALL: [Preset; 7] = [
    Preset {
        name: "cursor",
        title: "Cursor",
        programs: &["cursor-agent", "agent"],
        arguments: &["acp"],
        environment: &[("CURSOR_CONFIG_DIR", FILES)],
        headers: None,
        passes: &["CURSOR_API_KEY"],
        files: &[("cli-config.json", CURSOR)],
        install: "curl https://cursor.com/install -fsS | bash",
        login: "run `cursor-agent login` (of Cursor's own download), or set CURSOR_API_KEY",
        notice: "Cursor keeps its own instructions and tools: nothing in its protocol switches them off. It runs with \
                 permissions that deny its shell, reading and writing; fetching from the web is not fenced, and whether \
                 the denials hold is Cursor's doing. It counts no tokens, so usage is an estimate. Requests are charged \
                 to your Cursor account, under Cursor's terms.",
        source: "https://cursor.com/docs/cli/acp",
    },
    Preset {
        name: "claude",
        title: "Claude Code (claude-agent-acp)",
        programs: &["claude-agent-acp"],
        arguments: &[],
        // It would ask a model that refuses ten times more, and say nothing meanwhile; clients ask again by themselves.
        environment: &[("CLAUDE_CODE_MAX_RETRIES", "1")],
        headers: Some(("ANTHROPIC_CUSTOM_HEADERS", "\n")),
        passes: &[
            "ANTHROPIC_*",
            "CLAUDE_*",
            "AWS_*",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "CLOUD_ML_REGION",
        ],
        files: &[],
        install: "npm install -g @agentclientprotocol/claude-agent-acp",
        login: "run `claude` (of the npm package @anthropic-ai/claude-code) and type /login, or set ANTHROPIC_API_KEY",
        notice: "Claude Code runs with its own instructions replaced and its tools switched off. It makes requests of its \
                 own beside yours (titles, say). Anthropic's terms let a subscription login serve Claude Code itself, not \
                 other programs; with an API key there is no such question. Which of the two it uses is yours to decide.",
        source: "https://github.com/agentclientprotocol/claude-agent-acp",
    },
    Preset {
        name: "codex",
        title: "Codex (codex-acp)",
        programs: &["codex-acp"],
        arguments: &[],
        environment: &[],
        headers: None,
        passes: &["OPENAI_*", "CODEX_*", "AZURE_OPENAI_*"],
        files: &[],
        install: "npm install -g @agentclientprotocol/codex-acp",
        login: "run `codex login` (of the npm package @openai/codex), or set OPENAI_API_KEY",
        notice: "Codex keeps its own instructions and tools; yours are appended to them. It runs in its read-only mode, in \
                 which it asks before it changes anything or uses the network, and every such question is refused. \
                 Commands that only read may still run, and can read what you can read.",
        source: "https://github.com/agentclientprotocol/codex-acp",
    },
    Preset {
        name: "gemini",
        title: "Gemini CLI",
        programs: &["gemini"],
        arguments: &["--acp", "--skip-trust"],
        environment: &[
            ("GEMINI_SYSTEM_MD", "{files}/model.md"),
            ("GEMINI_CLI_HOME", "{files}/home"),
        ],
        headers: None,
        passes: &["GEMINI_*", "GOOGLE_*"],
        files: &[
            ("model.md", MODEL_PROMPT),
            ("home/.gemini/settings.json", GEMINI),
        ],
        install: "npm install -g @google/gemini-cli",
        login: "set GEMINI_API_KEY, or the variables of Vertex AI, in the environment of this program or in the agent's `env`",
        notice: "Gemini CLI runs with its own instructions replaced, every tool that is known switched \
                 off, and without your own settings. A tool that a later version adds would be on; what changes anything asks \
                 first, and is refused. Google forbids other programs to use Gemini CLI through a personal Google login: use an \
                 API key or Vertex AI.",
        source: "https://github.com/google-gemini/gemini-cli",
    },
    Preset {
        name: "opencode",
        title: "OpenCode",
        programs: &["opencode"],
        // It says nothing to its client while it asks a model again that refuses; its log does.
        arguments: &["acp", "--print-logs", "--log-level=ERROR"],
        environment: &[("OPENCODE_CONFIG", "{files}/opencode.json")],
        headers: None,
        passes: &[
            "OPENCODE_API_KEY",
            "ANTHROPIC_*",
            "OPENAI_*",
            "GEMINI_*",
            "GOOGLE_*",
            "OPENROUTER_API_KEY",
            "GROQ_API_KEY",
            "MISTRAL_API_KEY",
            "DEEPSEEK_API_KEY",
            "XAI_API_KEY",
            "AWS_*",
        ],
        files: &[("model.md", MODEL_PROMPT), ("opencode.json", OPENCODE)],
        install: "npm install -g opencode-ai",
        login: "run `opencode auth login` (of the npm package opencode-ai)",
        notice: "OpenCode runs as an agent without tools of its own and with its instructions replaced. It asks nobody before \
                 it calls a tool that your client offers; that is harmless, because your client is who carries it out. After \
                 an error of its model it tries again in silence for up to a minute.",
        source: "https://opencode.ai",
    },
    Preset {
        name: "copilot",
        title: "GitHub Copilot CLI",
        programs: &["copilot"],
        arguments: &[
            "--acp",
            "--available-tools",
            "none",
            "--no-custom-instructions",
        ],
        environment: &[],
        headers: None,
        passes: &["COPILOT_*", "GH_TOKEN", "GITHUB_TOKEN", "GH_HOST"],
        files: &[],
        install: "npm install -g @github/copilot",
        login: "run `copilot` (of the npm package @github/copilot) and type /login, or set GH_TOKEN",
        notice: "Copilot keeps its own instructions; its tools are switched off. GitHub has suspended accounts for use that \
                 looks automated: keep to what you would have typed yourself.",
        source: "https://github.com/github/copilot-cli",
    },
    Preset {
        name: "goose",
        title: "goose",
        programs: &["goose"],
        arguments: &["acp"],
        environment: &[("GOOSE_MODE", "chat")],
        headers: None,
        passes: &[
            "GOOSE_*",
            "ANTHROPIC_*",
            "OPENAI_*",
            "GOOGLE_*",
            "GEMINI_*",
            "OLLAMA_*",
            "OPENROUTER_API_KEY",
            "DATABRICKS_*",
            "AWS_*",
        ],
        files: &[],
        install: "see https://block.github.io/goose (a download for each system)",
        login: "run `goose configure` (of goose's own download)",
        notice: "goose keeps its own instructions. It runs in its chat mode, in which it carries out no tool, but it still tells \
                 its model of them.",
        source: "https://block.github.io/goose",
    },
];

impl Preset {
    /// Returns the preset with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Preset> {
        ALL.iter().find(|preset| preset.name == name)
    }

    /// Finds its program in the directories of `path` (the variable `PATH`).
    #[must_use]
    pub fn find(&self, path: &OsStr) -> Option<PathBuf> {
        self.programs
            .iter()
            .find_map(|program| find_program(program, path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::PRESETS;
    use crate::test_directory::Directory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_name_of_the_configuration_is_a_preset_and_every_preset_is_whole() {
        assert_eq!(ALL.each_ref().map(|preset| preset.name), PRESETS);
        for preset in &ALL {
            assert!(std::ptr::eq(Preset::named(preset.name).unwrap(), preset));
            assert!(!preset.programs.is_empty() && preset.notice.ends_with('.'));
            for (name, content) in preset.files {
                if name.ends_with(".json") {
                    serde_json::from_str::<serde_json::Value>(content).unwrap();
                }
            }
            for (_, value) in preset.environment {
                if let Some(file) = value.strip_prefix("{files}/") {
                    assert!(preset.files.iter().any(|(name, _)| name.starts_with(file)));
                }
            }
        }
        assert!(Preset::named("nobody").is_none());
    }

    #[test]
    fn a_program_of_a_preset_is_found_by_any_of_its_names() {
        let directory = Directory::new();
        let program = directory.file("bin/agent", "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.0.join("bin").into_os_string();
        let cursor = Preset::named("cursor").unwrap();
        assert_eq!(cursor.find(&path), Some(program));
    }
}
