//! Files that resources hold: regular files below the folders of `registry.files`, and none of the program's own.
//!
//! Links are resolved first. What they lead to is opened from the folder down, name by name, and no link is followed then, so that a
//! link which takes a file's place meanwhile leads nowhere.

use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::registry::{FileDone, FileRead, Files, NotRead};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open, openat, statat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::{File, canonicalize};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Threads that read at once.
const THREADS: usize = 8;
/// Reads that wait.
const WAITING: usize = 1024;

/// Reads files, on a few threads.
pub struct HostFiles(Arc<Shared>);

struct Shared {
    fence: Mutex<Fence>,
    budget: Option<Budget>,
    work: Mutex<Work>,
}

/// Folders that may be read, and the one that may not.
#[derive(Clone, Debug)]
struct Fence {
    roots: Vec<PathBuf>,
    data_dir: PathBuf,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Job>,
    threads: usize,
}

struct Job {
    path: PathBuf,
    most: usize,
    done: FileDone,
}

impl std::fmt::Debug for HostFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostFiles({:?})", lock(&self.0.fence).roots)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced as one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostFiles {
    /// Permits the folders of `registry.files`. Nothing in `data_dir` is ever read. Content counts against `budget`.
    #[must_use]
    pub fn new(folders: &[PathBuf], data_dir: &Path, budget: Option<Budget>) -> Arc<Self> {
        Arc::new(Self(Arc::new(Shared {
            fence: Mutex::new(Fence {
                roots: folders.to_vec(),
                data_dir: data_dir.to_owned(),
            }),
            budget,
            work: Mutex::default(),
        })))
    }

    /// Takes another list over.
    pub fn take_over(&self, folders: &[PathBuf]) {
        lock(&self.0.fence).roots = folders.to_vec();
    }
}

impl Files for HostFiles {
    fn permits(&self, path: &Path) -> Result<(), NotRead> {
        lock(&self.0.fence).permits(path)
    }

    fn read(&self, path: PathBuf, most: usize, done: FileDone) {
        let mut work = lock(&self.0.work);
        let job = Job { path, most, done };
        work.waiting.push_back(job);
        if work.threads == THREADS {
            return;
        }
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("files".to_owned());
        match thread.spawn(move || shared.run()) {
            Ok(_) => work.threads += 1,
            // One of the threads that are there reads it.
            Err(_) if work.threads > 0 => {}
            Err(error) => {
                tracing::error!("a file is not read: the system gives no thread: {error}");
                let _unread = work.waiting.pop_back();
            }
        }
    }
}

impl Shared {
    /// Reads until nothing waits.
    fn run(&self) {
        loop {
            let (job, is_too_much) = {
                let mut work = lock(&self.work);
                let is_too_much = work.waiting.len() > WAITING;
                // The latest of too many is refused, and those before it are read.
                let job = if is_too_much {
                    work.waiting.pop_back()
                } else {
                    work.waiting.pop_front()
                };
                if job.is_none() {
                    work.threads -= 1;
                }
                (job, is_too_much)
            };
            let Some(job) = job else {
                return;
            };
            let read = if is_too_much {
                Err(NotRead::TooMany)
            } else {
                self.read(&job)
            };
            (job.done)(read);
        }
    }

    fn read(&self, job: &Job) -> Result<FileRead, NotRead> {
        let fence = lock(&self.fence).clone();
        let (file, length) = fence.open(&job.path)?;
        let too_large = || NotRead::TooLarge {
            path: job.path.display().to_string(),
            most: job.most,
        };
        let most = job.most as u64;
        if length > most {
            return Err(too_large());
        }
        let mut share = self.budget.as_ref().map(Budget::share);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        if let Some(share) = &mut share
            && share.reserve(0, wanted) < wanted
        {
            return Err(NotRead::Memory(job.path.display().to_string()));
        }
        let mut bytes = Vec::with_capacity(wanted);
        // It may grow meanwhile.
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&job.path, &error))?;
        if bytes.len() > job.most {
            return Err(too_large());
        }
        if let Some(share) = &mut share {
            // What is beyond the budget is for those who hold most of it to give back.
            let _within = share.hold(bytes.len());
        }
        Ok(FileRead { bytes, share })
    }
}

fn failed(path: &Path, error: &io::Error) -> NotRead {
    let path = path.display();
    if matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) {
        return NotRead::Missing(path.to_string());
    }
    NotRead::Failed(format!("`{path}` cannot be read: {error}"))
}

impl Fence {
    fn permits(&self, path: &Path) -> Result<(), NotRead> {
        let refuse = |why: &str| {
            let path = path.display().to_string();
            Err(NotRead::Refused(format!(
                "`{}` cannot be read: {why}",
                path.escape_debug()
            )))
        };
        if !path.is_absolute() {
            return refuse("it is no absolute path");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return refuse("a path has no `..` in it");
        }
        let is_below = |root: &PathBuf| path.starts_with(root);
        if !self.roots.iter().any(is_below) {
            return refuse(
                "`registry.files` of the configuration lists no folder that it is in; add the folder there to read it",
            );
        }
        Ok(())
    }

    /// Opens a file that may be read, and gives its length in bytes.
    fn open(&self, path: &Path) -> Result<(File, u64), NotRead> {
        self.permits(path)?;
        let refuse =
            |why: &str| NotRead::Refused(format!("`{}` cannot be read: {why}", path.display()));
        let real = canonicalize(path).map_err(|error| failed(path, &error))?;
        let roots = self.roots.iter().filter_map(|root| canonicalize(root).ok());
        let mut roots = roots.filter(|root| real.starts_with(root));
        let root = roots.next().ok_or_else(|| {
            refuse("it leads out of the folders that `registry.files` of the configuration lists")
        })?;
        if canonicalize(&self.data_dir).is_ok_and(|data_dir| real.starts_with(data_dir)) {
            return Err(refuse("the program's own files are in `data_dir`"));
        }
        let opened = open_below(&root, &real).map_err(|error| match error {
            Errno::LOOP | Errno::MLINK => refuse("it became a link while it was opened"),
            Errno::INVAL => refuse("it is no regular file"),
            error => failed(path, &error.into()),
        })?;
        if is_of_the_system(&opened).map_err(|error| failed(path, &error.into()))? {
            return Err(refuse("it is in a file system of the kernel's"));
        }
        let stat = fstat(&opened).map_err(|error| failed(path, &error.into()))?;
        Ok((opened, u64::try_from(stat.st_size).unwrap_or_default()))
    }
}

/// Opens a regular file from a folder down. No link is followed on the way, and nothing but folders and a regular file is opened.
/// Both paths are without links, as they were found a moment ago.
fn open_below(root: &Path, real: &Path) -> Result<File, Errno> {
    let below = real.strip_prefix(root).map_err(|_| Errno::LOOP)?;
    // A single file may be listed too.
    let (root, below) = match (
        below.as_os_str().is_empty(),
        root.parent(),
        root.file_name(),
    ) {
        (true, Some(parent), Some(name)) => (parent, Path::new(name)),
        _ => (root, below),
    };
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = open(root, folder, Mode::empty())?;
    let mut names = below.components().peekable();
    while let Some(Component::Normal(name)) = names.next() {
        if names.peek().is_some() {
            at = openat(&at, name, folder, Mode::empty())?;
            continue;
        }
        // To open a device may do something, and to open a FIFO would wait for a writer.
        let is_regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
        let found = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        if !is_regular(found.st_mode) {
            return Err(Errno::INVAL);
        }
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&at, name, flags, Mode::empty())?;
        if !is_regular(fstat(&file)?.st_mode) {
            return Err(Errno::INVAL);
        }
        return Ok(File::from(file));
    }
    Err(Errno::INVAL)
}

/// True for a file of a file system in which the kernel shows itself and its processes: their environments, memory and keys.
#[cfg(target_os = "linux")]
fn is_of_the_system(file: &File) -> Result<bool, Errno> {
    const KINDS: [u64; 12] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0x6367_7270, // cgroup2
        0x0027_e0eb, // cgroup
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0xde5e_81e4, // efivarfs
        0xf97c_ff8c, // selinuxfs
        0x6165_676c, // pstore
    ];
    let kind = rustix::fs::fstatfs(file)?.f_type;
    // It is signed on some machines, and 32 bits long.
    let kind = u64::try_from(kind & 0xffff_ffff).unwrap_or_default();
    Ok(KINDS.contains(&kind))
}

/// Other systems show no such files.
#[cfg(not(target_os = "linux"))]
const fn is_of_the_system(_: &File) -> Result<bool, Errno> {
    Ok(false)
}
