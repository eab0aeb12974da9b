//! Shells, and the scripts with which each completes the command line.
//!
//! A script asks the program for every word, by the hidden command `complete`, so that models, keys, sessions and agents are
//! those of the moment.

use clap::ValueEnum;

/// A shell that completes words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash.
    Bash,
    /// Elvish.
    Elvish,
    /// Fish.
    Fish,
    /// PowerShell.
    Powershell,
    /// Zsh.
    Zsh,
}

const BASH: &str = r#"_PROGRAM() {
    local IFS=$'\n'
    COMPREPLY=($(PROGRAM complete "--word=$2" -- "${COMP_WORDS[@]:0:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _PROGRAM PROGRAM
"#;

const ELVISH: &str = r#"set edit:completion:arg-completer[PROGRAM] = {|@words|
    PROGRAM complete --word=$words[-1] -- (all $words[..-1])
}
"#;

const FISH: &str = r#"complete --keep-order --command PROGRAM --arguments "(PROGRAM complete --word=(commandline --current-token) -- (commandline --current-process --tokenize --cut-at-cursor) 2>/dev/null)"
"#;

const POWERSHELL: &str = r#"Register-ArgumentCompleter -Native -CommandName PROGRAM -ScriptBlock {
    param($word, $line, $cursor)
    $words = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { $_.ToString() })
    & PROGRAM complete "--word=$word" '--' @words | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"#;

const ZSH: &str = r#"#compdef PROGRAM
_PROGRAM() {
    local -a found
    found=(${(f)"$(PROGRAM complete "--word=${words[CURRENT]}" -- "${(@)words[1,CURRENT-1]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
if [ "$funcstack[1]" = "_PROGRAM" ]; then _PROGRAM "$@"; else compdef _PROGRAM PROGRAM; fi
"#;

impl Shell {
    /// Returns the script that completes the command line of `program`.
    #[must_use]
    pub fn script(self, program: &str) -> String {
        let script = match self {
            Self::Bash => BASH,
            Self::Elvish => ELVISH,
            Self::Fish => FISH,
            Self::Powershell => POWERSHELL,
            Self::Zsh => ZSH,
        };
        script.replace("PROGRAM", program)
    }
}
