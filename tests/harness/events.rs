//! The task events that containerd passes on, in the order they come.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use containerd_client::events as msg;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::{Any, Timestamp};

use crate::Containerd;

/// Our own topic, to see that the subscription is in force.
const READY: &str = "/curfew-test/ready";

/// One task event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// As `/tasks/exit`.
    pub topic: String,
    pub container_id: String,
    /// Empty for the container's init; in an exit event containerd's `id` if that is an exec's.
    pub exec_id: String,
    pub pid: u32,
    /// Of exit and delete events.
    pub status: u32,
    pub exited_at: Option<SystemTime>,
    /// When the shim says it published this.
    pub published_at: Option<SystemTime>,
}

/// All task events since the subscription.
#[derive(Debug)]
pub struct Events {
    seen: Arc<Seen>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Containerd {
    /// Subscribes, and returns when nothing published from now on can be missed.
    #[track_caller]
    pub fn events(&self) -> Events {
        let seen = Arc::new(Seen::default());
        let to = Arc::clone(&seen);
        let mut client = self.client().events();
        let request =
            self.request(SubscribeRequest { filters: vec![r#"topic~="^/(tasks|curfew-test)/""#.into()] });
        let reader = self.wire.spawn(async move {
            // The stream's own answer only comes with the first event.
            let Ok(stream) = client.subscribe(request).await else {
                return;
            };
            let mut stream = stream.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                to.add(Event::from(envelope));
            }
        });
        let ready = crate::rpc::poll(Duration::from_secs(5), || {
            let mut events = self.client().events();
            let publish = PublishRequest {
                topic: READY.into(),
                event: Some(Any {
                    type_url: "containerd.events.NamespaceCreate".into(),
                    value: msg::NamespaceCreate::default().encode_to_vec(),
                }),
            };
            self.ask(events.publish(self.request(publish))).ok()?;
            let came = |all: &[Event]| all.iter().any(|event| event.topic == READY);
            seen.wait(Duration::from_millis(20), came).then_some(())
        });
        assert!(ready.is_some(), "containerd passes no events on");
        Events { seen, reader }
    }
}

impl Events {
    /// What has come until now.
    pub fn all(&self) -> Vec<Event> {
        tasks(&self.seen.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the events so far satisfy the predicate, and gives them; the test fails if
    /// that takes more than five seconds.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let limit = Duration::from_secs(5);
        if !self.seen.wait(limit, |all| is_so(&tasks(all))) {
            panic!("no {what} within {limit:?}; events: {:#?}", self.all());
        }
        self.all()
    }

    /// Waits for that many events.
    #[track_caller]
    pub fn wait_for(&self, n: usize) -> Vec<Event> {
        self.wait_until(&format!("{n} events"), |all| all.len() >= n)
    }

    /// The topics so far of one container, without `/tasks/`.
    pub fn topics_of(&self, container: &str) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|event| event.container_id == container)
            .map(|event| event.topic.trim_start_matches("/tasks/").to_owned())
            .collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn tasks(all: &[Event]) -> Vec<Event> {
    let ours = all.iter().filter(|event| event.topic != READY);
    ours.cloned().collect()
}

impl Seen {
    fn add(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration, is_so: impl Fn(&[Event]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        while !is_so(&events) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl From<Envelope> for Event {
    fn from(envelope: Envelope) -> Self {
        let mut event = Self {
            topic: envelope.topic,
            container_id: String::new(),
            exec_id: String::new(),
            pid: 0,
            status: 0,
            exited_at: None,
            published_at: envelope.timestamp.and_then(time),
        };
        let any = envelope.event.unwrap_or_default();
        event.fill(any.type_url.trim_start_matches("containerd.events."), &any.value);
        event
    }
}

impl Event {
    /// Reads what the event's own message says.
    fn fill(&mut self, kind: &str, value: &[u8]) {
        match kind {
            "TaskCreate" => {
                let create = msg::TaskCreate::decode(value).unwrap_or_default();
                (self.container_id, self.pid) = (create.container_id, create.pid);
            }
            "TaskStart" => {
                let start = msg::TaskStart::decode(value).unwrap_or_default();
                (self.container_id, self.pid) = (start.container_id, start.pid);
            }
            "TaskExit" => {
                let exit = msg::TaskExit::decode(value).unwrap_or_default();
                if exit.id != exit.container_id {
                    self.exec_id = exit.id;
                }
                (self.container_id, self.pid) = (exit.container_id, exit.pid);
                (self.status, self.exited_at) = (exit.exit_status, exit.exited_at.and_then(time));
            }
            "TaskDelete" => {
                let gone = msg::TaskDelete::decode(value).unwrap_or_default();
                if gone.id != gone.container_id {
                    self.exec_id = gone.id;
                }
                (self.container_id, self.pid) = (gone.container_id, gone.pid);
                (self.status, self.exited_at) = (gone.exit_status, gone.exited_at.and_then(time));
            }
            "TaskExecAdded" => {
                let added = msg::TaskExecAdded::decode(value).unwrap_or_default();
                (self.container_id, self.exec_id) = (added.container_id, added.exec_id);
            }
            "TaskExecStarted" => {
                let started = msg::TaskExecStarted::decode(value).unwrap_or_default();
                (self.container_id, self.exec_id) = (started.container_id, started.exec_id);
                self.pid = started.pid;
            }
            "TaskOOM" => {
                self.container_id = msg::TaskOom::decode(value).unwrap_or_default().container_id;
            }
            "TaskPaused" => {
                self.container_id = msg::TaskPaused::decode(value).unwrap_or_default().container_id;
            }
            "TaskResumed" => {
                self.container_id = msg::TaskResumed::decode(value).unwrap_or_default().container_id;
            }
            "TaskCheckpointed" => {
                let made = msg::TaskCheckpointed::decode(value).unwrap_or_default();
                self.container_id = made.container_id;
            }
            _ => {}
        }
    }
}

fn time(at: Timestamp) -> Option<SystemTime> {
    (at.seconds > 0).then(|| SystemTime::try_from(at).ok())?
}
