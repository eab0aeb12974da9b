//! Programs that are installed on this machine: the search for one by its name, and the reason for which it cannot be run.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A program cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotInstalled {
    /// Nothing has its name.
    #[error("`{program}` is not {}; {}", place(.program), advice(*.install))]
    Missing {
        /// The program that was looked for.
        program: String,
        /// The command that installs it, when it is known.
        install: Option<&'static str>,
    },
    /// A file has its name, and nobody may run it.
    #[error("`{0}` is not executable; run `chmod +x {0}`", .file.display())]
    NotExecutable {
        /// The file.
        file: PathBuf,
    },
    /// A directory has its name.
    #[error("`{}` is a directory; name the program in it", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
}

impl NotInstalled {
    /// Says why `program` was not found in the directories of `path`. `install` is the command that installs it.
    pub(crate) fn why(program: String, path: &OsStr, install: Option<&'static str>) -> Self {
        let mut named = named_files(&program, path).into_iter();
        match named.find(|file| file.exists()) {
            Some(path) if path.is_dir() => Self::Directory { path },
            Some(file) => Self::NotExecutable { file },
            None => Self::Missing { program, install },
        }
    }
}

/// The place where a program was looked for.
fn place(program: &str) -> &'static str {
    if program.contains('/') {
        "there"
    } else {
        "on the PATH"
    }
}

fn advice(install: Option<&'static str>) -> Cow<'static, str> {
    match install {
        Some(install) => format!("install it with: {install}").into(),
        None => "give its path, or install it".into(),
    }
}

/// Finds a program as a shell does: a name with a `/` is a path, any other name is searched in the absolute directories
/// of `path`, in the form of the variable `PATH`.
#[must_use]
pub fn find_program(program: &str, path: &OsStr) -> Option<PathBuf> {
    named_files(program, path).into_iter().find(|file| {
        std::fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// Returns the paths at which a shell looks for a program, whether anything is there or not.
fn named_files(program: &str, path: &OsStr) -> Vec<PathBuf> {
    if program.contains('/') {
        return std::path::absolute(program).into_iter().collect();
    }
    let directories = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    directories
        .map(|directory| directory.join(program))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;
    use std::path::Path;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let directory = Directory::new();
        let program = directory.file("bin/agent", "");
        directory.file("other/agent", "");
        let path = std::env::join_paths([
            Path::new("relative"),
            &directory.0.join("other"),
            &directory.0.join("bin"),
        ])
        .unwrap();
        assert_eq!(find_program("agent", &path), None, "it cannot be run");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find_program("agent", &path), Some(program.clone()));
        let by_path = program.to_str().unwrap();
        assert_eq!(find_program(by_path, OsStr::new("")), Some(program.clone()));
        assert_eq!(find_program("/", &path), None);
    }
}
