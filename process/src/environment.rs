//! The environment of a child: a list of allowed variables, because the program's own environment may hold keys and other
//! secrets of the person.

use std::ffi::{OsStr, OsString};

/// Variables that any program needs to find its files and its way to the network. Those of the locale, `LC_*`, are allowed too.
const ALLOWED: [&str; 30] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_HOME",
    "XDG_DATA_DIRS",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Builds the environment of a child from the variables `of`: those that every program needs and those that `further` names (a
/// name that ends in `*` stands for all with that prefix), then `set`, which wins.
pub fn clean_environment(
    of: impl IntoIterator<Item = (OsString, OsString)>,
    further: &[&str],
    set: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let allowed = |name: &OsStr| {
        name.to_str().is_some_and(|name| {
            name.starts_with("LC_")
                || ALLOWED.contains(&name)
                || further
                    .iter()
                    .any(|further| match further.strip_suffix('*') {
                        Some(beginning) => name.starts_with(beginning),
                        None => *further == name,
                    })
        })
    };
    let is_set = |name: &OsStr| set.iter().any(|(other, _)| OsStr::new(other) == name);
    let mut all: Vec<(OsString, OsString)> = of
        .into_iter()
        .filter(|(name, _)| allowed(name) && !is_set(name))
        .collect();
    all.extend(set.iter().map(|(name, value)| (name.into(), value.into())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_what_it_needs_and_what_it_is_given() {
        let all = [
            ("HOME", "/home/ada"),
            ("LC_ALL", "C"),
            ("LOCAL_PROVIDER_KEY", "secret"),
            ("EDITOR_KEY", "secret"),
            ("VENDOR_KEY", "theirs"),
            ("VENDOR_URL", "http://a"),
            ("PATH", "/bin"),
        ];
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let set = [("PATH".to_owned(), "/usr/bin".to_owned())];
        let clean = clean_environment(all, &["VENDOR_*"], &set);
        let expected = [
            ("HOME", "/home/ada"),
            ("LC_ALL", "C"),
            ("VENDOR_KEY", "theirs"),
            ("VENDOR_URL", "http://a"),
            ("PATH", "/usr/bin"),
        ];
        assert_eq!(
            clean,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }
}
