//! The program that holds a port, as Linux tells it below `/proc`.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Processes that are looked at, at most.
const PROCESSES: usize = 100_000;

/// The program that listens on an address. Its text fits after "taken by".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortHolder {
    /// This process.
    Own,
    /// A process of the same user, or any one for the administrator.
    Process {
        /// Name of its program.
        name: String,
        /// Its number.
        id: u32,
    },
    /// A process that may not be looked into.
    User {
        /// Name of its user, or the user's number.
        name: String,
    },
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "this program itself (process {})", std::process::id()),
            Self::Process { name, id } => write!(f, "`{name}` (process {id})"),
            Self::User { name } => write!(f, "a program of the user `{name}`"),
        }
    }
}

impl PortHolder {
    /// Finds the holder of the socket that keeps `address` from being listened on; `None` where the system does not tell.
    #[must_use]
    pub fn find(address: SocketAddr) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
        let socket = tables
            .iter()
            .flat_map(|table| table.lines().filter_map(Socket::parse))
            .find(|socket| socket.hinders(address))?;
        socket.process().or_else(|| {
            let name = user(&socket.user).unwrap_or(socket.user);
            Some(Self::User { name })
        })
    }
}

/// A listening socket.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    /// Number of its user.
    user: String,
    inode: String,
}

impl Socket {
    /// Reads a line of `/proc/net/tcp` or `/proc/net/tcp6` (proc_net_tcp in the kernel's documentation).
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let address = parse_address(fields.nth(1)?)?;
        if fields.nth(1)? != LISTENING {
            return None;
        }
        let user = fields.nth(3)?.to_owned();
        let inode = fields.nth(1)?.to_owned();
        Some(Self {
            address,
            user,
            inode,
        })
    }

    /// True when nobody else may listen on `wanted` for it.
    fn hinders(&self, wanted: SocketAddr) -> bool {
        let (own, wanted_ip) = (self.address.ip().to_canonical(), wanted.ip().to_canonical());
        self.address.port() == wanted.port()
            && (own == wanted_ip || own.is_unspecified() || wanted_ip.is_unspecified())
    }

    /// The process that has it open. A process that it was forked from has it too, where that is still there: the first of them is
    /// the one that a person can stop, and a child may be there for a moment only.
    fn process(&self) -> Option<PortHolder> {
        let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES);
        let mut ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        let mut id = ids.find(|id| self.is_open_in(*id))?;
        while let Some(forked_from) = parent(id).filter(|id| self.is_open_in(*id)) {
            id = forked_from;
        }
        if id == std::process::id() {
            return Some(PortHolder::Own);
        }
        let name = program(&process_folder(id))?;
        Some(PortHolder::Process { name, id })
    }

    fn is_open_in(&self, id: u32) -> bool {
        let link = format!("socket:[{}]", self.inode);
        let Ok(files) = fs::read_dir(process_folder(id).join("fd")) else {
            return false;
        };
        let mut links = files.flatten().map(|file| fs::read_link(file.path()));
        links.any(|target| target.is_ok_and(|target| target == Path::new(&link)))
    }
}

fn process_folder(id: u32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

/// The process that started this one (proc_pid_stat in the kernel's manual; the name, in parentheses, may hold any character).
fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(process_folder(id).join("stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}

/// Reads `0100007F:2CAA`: each group of four bytes is a number of the machine, in hexadecimal digits.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: Vec<u8> = words.concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The name of a process's program: that of its file, else the one that the kernel keeps, which is cut to 15 bytes.
fn program(process: &Path) -> Option<String> {
    let file = fs::read_link(process.join("exe")).ok();
    let name = file.and_then(|file| {
        let name = file.file_name()?.to_str()?.to_owned();
        Some(name.trim_end_matches(" (deleted)").to_owned())
    });
    let name = name.or_else(|| fs::read_to_string(process.join("comm")).ok())?;
    let printable = name.trim().chars().filter(|c| !c.is_control());
    Some(printable.take(64).collect())
}

/// The name of a user of this machine.
fn user(number: &str) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_listening_socket_is_read_and_others_are_not() {
        let line = "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 00";
        let socket = Socket::parse(line).unwrap();
        assert_eq!(socket.address, "127.0.0.1:11434".parse().unwrap());
        assert_eq!((&*socket.user, &*socket.inode), ("998", "4711"));
        assert_eq!(Socket::parse(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(Socket::parse("  sl  local_address rem_address   st"), None);
        let six = "00000000000000000000000001000000:2CAA";
        assert_eq!(parse_address(six), Some("[::1]:11434".parse().unwrap()));
    }

    #[test]
    fn a_socket_on_every_address_hinders_each() {
        let socket = |address: &str| Socket {
            address: address.parse().unwrap(),
            user: String::new(),
            inode: String::new(),
        };
        let wanted = "127.0.0.1:11434".parse().unwrap();
        for (held, hinders) in [
            ("127.0.0.1:11434", true),
            ("0.0.0.0:11434", true),
            ("[::]:11434", true),
            ("[::ffff:127.0.0.1]:11434", true),
            ("127.0.0.2:11434", false),
            ("127.0.0.1:11435", false),
        ] {
            assert_eq!(socket(held).hinders(wanted), hinders, "{held}");
        }
    }

    #[test]
    fn the_holder_of_a_port_is_found_and_nobody_holds_a_free_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(PortHolder::find(address), Some(PortHolder::Own));
        let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(PortHolder::find(every), Some(PortHolder::Own));
        let nobody = "127.0.0.1:0".parse().unwrap();
        assert_eq!(PortHolder::find(nobody), None);
    }

    #[test]
    fn the_process_that_a_holder_was_forked_from_is_named_in_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tables = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut sockets = tables.lines().filter_map(Socket::parse);
        let socket = sockets.find(|socket| socket.address == address).unwrap();
        // Its standard input is the socket.
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
            .spawn()
            .unwrap();
        assert!(socket.is_open_in(child.id()));
        assert_eq!(parent(child.id()), Some(std::process::id()));
        assert_eq!(socket.process(), Some(PortHolder::Own));
        drop(listener);
        let name = "sleep".to_owned();
        let id = child.id();
        let held = PortHolder::Process { name, id };
        assert_eq!(PortHolder::find(address), Some(held));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_holder_is_told_by_name() {
        let process = PortHolder::Process {
            name: "ollama".into(),
            id: 812,
        };
        assert_eq!(process.to_string(), "`ollama` (process 812)");
        assert_eq!(user("0").as_deref(), Some("root"));
    }
}
