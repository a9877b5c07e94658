//! The shim's side: keeps a watchdog running, and keeps it knowing.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::Interest,
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Telling, WatchedPod,
    message::{ENDED, Message, Numbered, answered},
    spawn::spawn,
};
use crate::{
    cgroup::Cgroup,
    deadline::clock::Boottime,
    process::PidFd,
    watched::{Watched, watch_for},
};

/// Between two tries to start one.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// One that dies so soon may do it again.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Between two questions whether it is there, where there is nothing else to tell.
const PING: Duration = Duration::from_secs(30);
/// One that takes longer to answer, stopped perhaps, is as good as none.
const UNRESPONSIVE: Duration = Duration::from_secs(5);
/// How long one that has been let go may take to end.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// A watchdog that runs.
struct Link {
    process: PidFd,
    socket: Watched,
}

impl Link {
    fn start(pod: &WatchedPod) -> io::Result<Self> {
        let (process, socket): (PidFd, OwnedFd) = spawn(&pod.namespace, &pod.id, &pod.dir)?;
        Ok(Self { process, socket: watch_for(socket, Interest::READABLE)? })
    }

    /// The next answer; `None` once it is gone.
    async fn answer(&self) -> Option<u64> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            match ready.try_io(|socket| answered(socket.get_ref())) {
                Ok(answer) => return answer.ok().flatten(),
                Err(_) => continue,
            }
        }
    }
}

/// Everything that a watchdog has to know, for the next one.
pub(super) struct Keeper {
    pod: WatchedPod,
    /// This process.
    shim: Arc<PidFd>,
    cgroup: Cgroup,
    processes: Vec<Arc<PidFd>>,
    over: Option<Boottime>,
    /// Of the last message.
    number: u64,
    /// What has no answer yet.
    waiting: VecDeque<Unanswered>,
}

struct Unanswered {
    number: u64,
    told: Instant,
    /// Who wants to know, if anybody does.
    known: Option<oneshot::Sender<()>>,
}

impl Keeper {
    /// # Errors
    /// There is no descriptor of this process to be had.
    pub(super) fn new(pod: WatchedPod) -> io::Result<Self> {
        Ok(Self {
            pod,
            shim: Arc::new(PidFd::open(std::process::id().cast_signed())?),
            cgroup: Cgroup::default(),
            processes: Vec::new(),
            over: None,
            number: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Runs until the pod has ended.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Telling>) {
        let pod = self.pod.id.clone();
        loop {
            let started = Instant::now();
            // Time that the one before took.
            self.waiting.iter_mut().for_each(|unanswered| unanswered.told = started);
            let link = match Link::start(&self.pod) {
                Ok(link) => link,
                Err(error) => {
                    log::error!(pod = pod.as_str(); "cannot start the watchdog, trying on: {error}");
                    tokio::time::sleep(TRY_AGAIN).await;
                    continue;
                }
            };
            if self.tell_everything(&link).is_ok() && self.keep(&link, &mut inbox).await {
                return;
            }
            // Left alone it would take that for the shim's death.
            link.process.kill();
            log::error!(pod = pod.as_str(); "the watchdog is lost: starting another");
            if started.elapsed() < SHORT_LIFE {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Talks to this watchdog. Says whether that is over because the pod is; else the watchdog is lost.
    async fn keep(&mut self, link: &Link, inbox: &mut mpsc::UnboundedReceiver<Telling>) -> bool {
        loop {
            let late = self.waiting.front().map(|unanswered| unanswered.told + UNRESPONSIVE);
            let next = late.unwrap_or_else(|| Instant::now() + PING);
            tokio::select! {
                // After a pause of the whole machine the answer may be there, and late is what there is none to.
                biased;
                answer = link.answer() => match answer {
                    Some(ENDED) => {
                        log::error!(pod = self.pod.id.as_str(); "the watchdog has ended the sandbox, which was overdue");
                        if self.ask(link, Message::Ping, None, None).is_err() {
                            return false;
                        }
                    }
                    Some(number) => self.answered(number),
                    None => return false,
                },
                telling = inbox.recv() => {
                    // The pod is dropped without a word: the watchdog takes that for the shim's death.
                    let Some(Telling { message, process, known }) = telling else { return true };
                    self.note(&message, process.as_ref());
                    if matches!(message, Message::Release) {
                        self.release(link, known).await;
                        return true;
                    }
                    if self.ask(link, message, process.as_deref(), Some(known)).is_err() {
                        return false;
                    }
                }
                () = tokio::time::sleep_until(next) => {
                    if late.is_some() || self.ask(link, Message::Ping, None, None).is_err() {
                        return false;
                    }
                }
            }
        }
    }

    async fn release(&mut self, link: &Link, known: oneshot::Sender<()>) {
        // One that is gone already is let go, too.
        let _ = self.tell(link, Message::Release, None);
        if !link.process.ended_within(LAST_STEPS).await {
            link.process.kill();
        }
        let _ = known.send(());
    }

    /// Tells it something and notes that an answer is due.
    fn ask(
        &mut self,
        link: &Link,
        message: Message,
        process: Option<&PidFd>,
        known: Option<oneshot::Sender<()>>,
    ) -> io::Result<()> {
        let told = self.tell(link, message, process);
        self.waiting.push_back(Unanswered { number: self.number, told: Instant::now(), known });
        told
    }

    fn note(&mut self, message: &Message, process: Option<&Arc<PidFd>>) {
        match message {
            Message::Cgroup(cgroup) => self.cgroup = cgroup.clone(),
            Message::Process => {
                self.processes.retain(|process| !process.has_ended());
                self.processes.extend(process.cloned());
            }
            Message::Over(over) => self.over = *over,
            Message::Forget => {
                self.cgroup = Cgroup::default();
                self.processes.clear();
                self.over = None;
            }
            Message::Shim | Message::Ping | Message::Hold(_) | Message::Release => {}
        }
    }

    fn tell(&mut self, link: &Link, message: Message, process: Option<&PidFd>) -> io::Result<()> {
        self.number += 1;
        let numbered = Numbered { number: self.number, message };
        numbered.send(link.socket.get_ref(), process.map(AsFd::as_fd))
    }

    fn tell_everything(&mut self, link: &Link) -> io::Result<()> {
        self.tell(link, Message::Shim, Some(&self.shim.clone()))?;
        self.tell(link, Message::Hold(self.pod.hold), None)?;
        self.tell(link, Message::Cgroup(self.cgroup.clone()), None)?;
        for process in self.processes.clone() {
            self.tell(link, Message::Process, Some(&process))?;
        }
        self.tell(link, Message::Over(self.over), None)
    }

    fn answered(&mut self, number: u64) {
        while let Some(answered) = self.waiting.pop_front_if(|unanswered| unanswered.number <= number) {
            // Not everybody wants to know.
            let _ = answered.known.map(|known| known.send(()));
        }
    }
}
