//! The registry behind its lock, with the runs that count, the reads that wait, and the changes on their way to the store.

use super::registry_completed::CompletionCell;
use super::registry_executions::{Executions, Place};
use super::registry_handle::{BuiltIn, RegistryHandle};
use super::registry_permits as permits;
use crate::promise::{Promised, promise};
use crate::ranked::{LEAF, Ranked};
use crate::registry::{Commands, Files};
use mcp_local_provider_core::api::status::RegistryFigures;
use mcp_local_provider_core::time::{Instant, WallClock};
use mcp_local_provider_registry::rest::{Answer, Request, Step};
use mcp_local_provider_registry::{
    ChangeId, CompletionRequest, Contents, Failure, FetchId, Fetched, IntegrationSet, Key, Kind,
    Limits, Need, Outcome, Permits, ReaderId, Reading, Record, Registry, Secret, Store, StoreError,
    SubscriberId,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// The parts of a registry, as a program gives them.
#[derive(Debug)]
pub struct Setup {
    /// Shows that this build has a registry.
    pub built_in: BuiltIn,
    /// Limits of the configuration.
    pub limits: Limits,
    /// Hosts that may be asked.
    pub hosts: permits::Permits,
    /// All that the store has.
    pub records: Vec<Record>,
    /// The place where changes are kept.
    pub store: Arc<dyn Store>,
    /// Runs commands.
    pub commands: Arc<dyn Commands>,
    /// Reads files.
    pub files: Arc<dyn Files>,
}

/// A read that somebody waits for.
#[derive(Default)]
struct Awaited {
    end: Option<Result<Contents, Failure>>,
    waker: Option<Waker>,
}

pub(super) struct Data {
    pub(super) registry: Registry,
    reads: BTreeMap<ReaderId, Awaited>,
    /// Fetches that are open, each with who drives it.
    fetches: BTreeMap<FetchId, Option<Waker>>,
    /// Those who are woken when they have something to hear.
    pub(super) hearers: BTreeMap<SubscriberId, Waker>,
    /// Somebody looks at what is subscribed to, and is woken when there is more.
    pub(super) is_looked_at: bool,
    pub(super) looker: Option<Waker>,
}

/// The registry of an engine.
pub(crate) struct RegistryCell {
    pub(super) data: Ranked<Data, LEAF>,
    hosts: Ranked<permits::Permits, LEAF>,
    store: Arc<dyn Store>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) files: Arc<dyn Files>,
    executions: Arc<Executions>,
    /// Changes that the store did not keep, and why it did not keep the latest one.
    not_stored: Ranked<(u64, Option<String>), LEAF>,
    resource_bytes: AtomicUsize,
    next_reader: AtomicU64,
    next_subscriber: AtomicU64,
    of_models: OnceLock<TellModels>,
    pub(crate) completions: CompletionCell,
}

/// Is told the models that are integrations, each with whether it is enabled.
pub(crate) type TellModels = Box<dyn Fn(Vec<(String, bool)>) + Send + Sync>;

impl fmt::Debug for RegistryCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryCell({:?})", self.store)
    }
}

/// The lists of the configuration.
struct Lists<'c> {
    hosts: permits::Permits,
    cell: &'c RegistryCell,
}

impl Permits for Lists<'_> {
    fn http(&self, scheme: &str, host: &str, port: u16) -> Result<(), String> {
        let asked = self.hosts.http(scheme, host, Some(port));
        asked.map(|_| ()).map_err(|refused| refused.0)
    }

    fn command(&self, path: &str) -> Result<(), String> {
        let permitted = self.cell.commands.permits(path);
        permitted.map_err(|refused| refused.to_string())
    }

    fn file(&self, path: &str) -> Result<(), String> {
        let permitted = self.cell.files.permits(Path::new(path));
        permitted.map_err(|refused| refused.to_string())
    }
}

impl RegistryCell {
    /// The registry with all that is stored. Entries that cannot be read stay in the store, and are named in the log.
    pub(super) fn new(setup: Setup) -> Self {
        let mut registry = Registry::new(setup.limits.clone());
        for (Key { kind, name }, failure) in registry.restore(setup.records) {
            tracing::error!(
                "{kind:?} `{name}` of the registry cannot be read: {}",
                failure.message
            );
        }
        Self {
            data: Ranked::new(Data {
                registry,
                reads: BTreeMap::new(),
                fetches: BTreeMap::new(),
                hearers: BTreeMap::new(),
                is_looked_at: false,
                looker: None,
            }),
            hosts: Ranked::new(setup.hosts),
            store: setup.store,
            commands: setup.commands,
            files: setup.files,
            executions: Executions::new(&setup.limits),
            not_stored: Ranked::default(),
            resource_bytes: AtomicUsize::new(setup.limits.resource_bytes),
            next_reader: AtomicU64::new(0),
            next_subscriber: AtomicU64::new(0),
            of_models: OnceLock::new(),
            completions: CompletionCell::default(),
        }
    }

    /// Takes another configuration over.
    pub(crate) fn reload(&self, limits: &Limits, hosts: permits::Permits) {
        *self.hosts.lock() = hosts;
        self.executions.set_bounds(limits);
        self.resource_bytes
            .store(limits.resource_bytes, Ordering::Release);
        self.data.lock().registry.set_limits(limits.clone());
    }

    /// Hosts that may be asked now.
    pub(crate) fn hosts(&self) -> permits::Permits {
        self.hosts.lock().clone()
    }

    /// The most bytes of a resource.
    pub(crate) fn resource_bytes(&self) -> usize {
        self.resource_bytes.load(Ordering::Acquire)
    }

    /// Tells `of_models` the integrations as they are now, and after each change of one.
    pub(crate) fn tell_models(&self, of_models: TellModels) {
        of_models(self.models());
        // A second one is a fault of the engine.
        let _ = self.of_models.set(of_models);
    }

    /// The models that are integrations, each with whether it is enabled.
    fn models(&self) -> Vec<(String, bool)> {
        let data = self.data.lock();
        let all = data.registry.integrations();
        all.map(|it| (it.model_id(), it.enabled)).collect()
    }

    /// The integration that is a model, as it is now.
    pub(crate) fn integration(&self, model: &str) -> Result<IntegrationSet, Failure> {
        self.data.lock().registry.integration_of_model(model)
    }

    /// Reads the body of a completion.
    pub(crate) fn completion_request(&self, body: &[u8]) -> Result<CompletionRequest, Failure> {
        self.data.lock().registry.completion_request(body)
    }

    /// The key of an integration for its own server.
    pub(crate) fn api_key(&self, id: &str) -> Option<Secret> {
        self.data.lock().registry.api_key(id)
    }

    /// Handles a request of REST.
    pub(crate) fn handle(&self, request: &Request<'_>) -> Result<Step, Failure> {
        let lists = Lists {
            hosts: self.hosts(),
            cell: self,
        };
        self.data.lock().registry.rest(request, &lists)
    }

    /// Has a run take its place among those at once, or wait for one.
    pub(crate) fn enter(&self, now: Instant) -> Result<Place, Failure> {
        self.executions.enter(now)
    }

    /// Figures for summary, health and metrics.
    pub(crate) fn figures(&self) -> RegistryFigures {
        let (not_stored, store_error) = self.not_stored.lock().clone();
        RegistryFigures {
            running: self.executions.count(),
            completions: self.completions.count(),
            store_bytes: self.store.bytes(),
            not_stored,
            store_error,
            ..self.data.lock().registry.figures()
        }
    }

    /// Has the store seal all secrets with a new key; the answer says how many.
    pub(crate) fn rekey(&self, to: Option<&str>) -> Promised<Result<Answer, StoreError>> {
        let (promise, promised) = promise();
        self.store.rekey(
            to,
            Box::new(move |sealed| promise.keep(sealed.map(Answer::rekeyed))),
        );
        promised
    }

    /// A run of a tool has ended.
    pub(crate) fn ran(&self, went_well: bool) {
        self.data.lock().registry.ran(went_well);
    }

    /// Makes the id of somebody who hears.
    pub(super) fn subscriber(&self) -> SubscriberId {
        SubscriberId(self.next_subscriber.fetch_add(1, Ordering::Relaxed))
    }

    /// The number of tools that are on.
    pub(super) fn tools(&self) -> usize {
        self.data.lock().registry.tools()
    }

    /// Begins a read, `anew` where a copy may be old. A fetch that is given is to be driven by somebody who outlives the reader.
    pub(crate) fn read(
        &self,
        now: Instant,
        wall: &WallClock,
        uri: &str,
        anew: bool,
    ) -> (ReaderId, Option<(FetchId, Need)>) {
        let reader = ReaderId(self.next_reader.fetch_add(1, Ordering::Relaxed));
        let mut data = self.data.lock();
        let mut awaited = Awaited::default();
        let reading = if anew {
            data.registry.read_anew(now, wall, uri, reader)
        } else {
            data.registry.read(now, wall, uri, reader)
        };
        let fetch = match reading {
            Reading::Ready(end) => {
                awaited.end = Some(end);
                None
            }
            Reading::Begin(fetch, need) => {
                data.fetches.insert(fetch, None);
                Some((fetch, need))
            }
            Reading::Wait(_) => None,
        };
        data.reads.insert(reader, awaited);
        (reader, fetch)
    }

    /// The end of a read, once; without one the waker is woken when it is there.
    pub(crate) fn poll_read(
        &self,
        reader: ReaderId,
        waker: &Waker,
    ) -> Option<Result<Contents, Failure>> {
        let mut data = self.data.lock();
        let awaited = data.reads.get_mut(&reader)?;
        let end = awaited.end.take();
        if end.is_none() {
            awaited.waker = Some(waker.clone());
        }
        end
    }

    /// Nobody waits for a read any more.
    pub(crate) fn leave(&self, reader: ReaderId) {
        let waker = {
            let mut data = self.data.lock();
            data.reads.remove(&reader);
            let fetch = data.registry.leave(reader);
            fetch
                .and_then(|fetch| data.fetches.remove(&fetch))
                .flatten()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// True while the fetch is wanted; its driver is woken when that ends.
    pub(crate) fn is_wanted(&self, fetch: FetchId, waker: &Waker) -> bool {
        let mut data = self.data.lock();
        let driver = data.fetches.get_mut(&fetch);
        driver.is_some_and(|driver| {
            *driver = Some(waker.clone());
            true
        })
    }

    /// A fetch has ended.
    pub(crate) fn fetched(&self, now: Instant, wall: &WallClock, fetch: FetchId, outcome: Outcome) {
        self.settle(|data| {
            data.fetches.remove(&fetch);
            data.registry.fetched(now, wall, fetch, outcome)
        });
        self.wake_hearers();
    }

    /// The time at which a fetch has taken too long.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.data.lock().registry.poll_fetch_timeout()
    }

    /// Ends the fetches that took too long.
    pub(crate) fn handle_timeout(&self, now: Instant, wall: &WallClock) {
        self.settle(|data| data.registry.handle_fetch_timeout(now, wall));
    }

    /// Gives readers the ends that `call` has made, and wakes them and the drivers of fetches that are over.
    fn settle(&self, call: impl FnOnce(&mut Data) -> Fetched) {
        let mut wake = Vec::new();
        let mut data = self.data.lock();
        let fetched = call(&mut data);
        for (reader, end) in fetched.ready {
            if let Some(awaited) = data.reads.get_mut(&reader) {
                awaited.end = Some(end);
                wake.extend(awaited.waker.take());
            }
        }
        for fetch in fetched.end {
            wake.extend(data.fetches.remove(&fetch).flatten());
        }
        drop(data);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl RegistryHandle {
    /// Gives a change to the store, and `answer` to who waits once it is kept. Whether it is kept is settled when the store says so,
    /// whoever waits for it then.
    pub(crate) fn keep(
        &self,
        id: ChangeId,
        records: Vec<Record>,
        answer: Answer,
    ) -> Promised<Result<Answer, StoreError>> {
        let (promise, promised) = promise();
        let cell = self.clone();
        let of_models = records.iter().any(|it| it.key.kind == Kind::Integration);
        self.store.commit(
            records,
            Box::new(move |kept| {
                match &kept {
                    Ok(()) => {
                        cell.data.lock().registry.durable(id);
                        cell.not_stored.lock().1 = None;
                    }
                    Err(error) => {
                        tracing::error!("the registry's file takes no change: {error}");
                        cell.data.lock().registry.undo(id);
                        let mut not_stored = cell.not_stored.lock();
                        not_stored.0 += 1;
                        not_stored.1 = Some(error.message.clone());
                    }
                }
                cell.wake_hearers();
                if let Some(tell) = cell.of_models.get().filter(|_| of_models) {
                    tell(cell.models());
                }
                promise.keep(kept.map(|()| answer));
            }),
        );
        promised
    }
}
