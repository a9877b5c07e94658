//! A deadline file over the pod's life.

use std::{io, sync::Arc, time::Duration};

use tokio::{io::Interest, sync::oneshot};

use super::{DeadlineFileError, Place, volume::Volume};
use crate::{
    deadline::claim::{Claim, Malformed},
    watched::{Watched, watch_for},
};

/// A reading without any sign of a change: a change may go unnoticed.
const EVERY: Duration = Duration::from_secs(10);
/// Between two readings, however often the file changes.
const PAUSE: Duration = Duration::from_millis(100);
/// How many different things are said about what is wrong with a file.
const MOST_COMPLAINTS: usize = 16;
/// How long the first reading may take: a Create waits for it.
const FIRST: Duration = Duration::from_secs(2);

/// Whether the file has been read once.
pub(crate) struct FirstReading(oneshot::Receiver<Result<(), DeadlineFileError>>);

impl FirstReading {
    /// Waits until it has, or for as long as a Create can wait.
    ///
    /// # Errors
    /// There is no such volume.
    pub(crate) async fn over(self) -> Result<(), DeadlineFileError> {
        match tokio::time::timeout(FIRST, self.0).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Reads a pod's deadline file and tells what it says.
pub(crate) struct Follower<T> {
    /// Whose it is, for the log.
    pod: String,
    place: Place,
    /// Whom to tell each time that the file says something.
    tell: T,
    first: oneshot::Sender<Result<(), DeadlineFileError>>,
}

impl<T: Fn(Claim)> Follower<T> {
    /// One that is to be run, and its first reading.
    pub(crate) fn new(pod: String, place: Place, tell: T) -> (Self, FirstReading) {
        let (first, over) = oneshot::channel();
        (Self { pod, place, tell, first }, FirstReading(over))
    }

    /// Goes on until it is aborted.
    pub(crate) async fn run(self) {
        let Self { pod, place, tell, first } = self;
        let volume = place.source.clone();
        let opened = tokio::task::spawn_blocking(move || Volume::open(&place)).await;
        let file = match opened.unwrap_or_else(|_| Err(io::Error::other("its reader has gone"))) {
            Ok(file) => Arc::new(file),
            Err(source) => {
                let _ = first.send(Err(DeadlineFileError::Unopenable { volume, source }));
                return;
            }
        };
        let changes = file.changes().and_then(|changes| watch_for(changes, Interest::READABLE));
        let changes = changes.inspect_err(|error| {
            log::warn!(pod = pod.as_str(); "cannot watch {}, reading it every {EVERY:?}: {error}", volume.display());
        });
        let (mut first, mut complaints) = (Some(first), Complaints::default());
        loop {
            match read(&file).await {
                Ok(claim) => tell(claim),
                Err(complaint) => complaints.log(&pod, &complaint),
            }
            if let Some(first) = first.take() {
                let _ = first.send(Ok(()));
            }
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(EVERY, changed(changes.as_ref().ok())).await;
        }
    }
}

/// What is wrong with the file, if anything is.
async fn read(file: &Arc<Volume>) -> Result<Claim, Complaint> {
    let file = file.clone();
    let content = tokio::task::spawn_blocking(move || file.read()).await;
    let content = content.unwrap_or_else(|_| Err(io::Error::other("its reader has gone")));
    Claim::parse(
        &content.map_err(|error| Complaint { is_nothing: is_missing(&error), text: error.to_string() })?,
    )
    .map_err(|error| Complaint { is_nothing: error == Malformed::Empty, text: error.to_string() })
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Returns once the volume has changed; never without a way to know.
async fn changed(changes: Option<&Watched>) {
    let Some(changes) = changes else { return std::future::pending().await };
    let mut has_changed = false;
    while !has_changed {
        let Ok(mut ready) = changes.readable().await else { return std::future::pending().await };
        // All that has happened so far is one change.
        while let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0u8; 4096])?)) {
            if read.is_err() {
                return std::future::pending().await;
            }
            has_changed = true;
        }
    }
}

struct Complaint {
    /// Whether the file says nothing at all, as one does that waits for its claim.
    is_nothing: bool,
    text: String,
}

/// What has been logged: each thing once, and not too many.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn log(&mut self, pod: &str, complaint: &Complaint) {
        if self.0.len() >= MOST_COMPLAINTS || self.0.contains(&complaint.text) {
            return;
        }
        let level = if complaint.is_nothing { log::Level::Info } else { log::Level::Warn };
        log::log!(level, pod; "the deadline file is ignored: {}", complaint.text);
        self.0.push(complaint.text.clone());
        if self.0.len() == MOST_COMPLAINTS {
            log::warn!(pod; "what else is wrong with the deadline file isn't logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tokio::sync::mpsc;

    use super::*;

    fn write(path: &Path, content: &str) {
        crate::durable::replace(path, content.as_bytes()).unwrap();
    }

    fn follow(dir: &Path) -> (tokio::task::JoinHandle<()>, FirstReading, mpsc::UnboundedReceiver<Claim>) {
        let (told, claims) = mpsc::unbounded_channel();
        let place = Place { source: dir.into(), below: "deadline".into() };
        let tell = move |claim| drop(told.send(claim));
        let (follower, first) = Follower::new("pod".into(), place, tell);
        (tokio::spawn(follower.run()), first, claims)
    }

    #[tokio::test]
    async fn what_is_there_at_first_and_what_comes_later_is_told() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("deadline"), "10m\n");
        let (task, first, mut claims) = follow(dir.path());
        first.over().await.unwrap();
        assert_eq!(claims.try_recv().unwrap().text(), "10m");
        write(&dir.path().join("deadline"), "rubbish");
        write(&dir.path().join("deadline"), "20m");
        let next = tokio::time::timeout(Duration::from_secs(5), claims.recv());
        assert_eq!(next.await.unwrap().unwrap().text(), "20m");
        task.abort();
    }

    #[tokio::test]
    async fn a_volume_that_is_not_there_is_an_error_and_a_file_that_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (task, first, mut claims) = follow(dir.path());
        first.over().await.unwrap();
        assert!(claims.try_recv().is_err());
        task.abort();
        fs::remove_dir(dir.path()).unwrap();
        let (_, first, _) = follow(dir.path());
        let error = first.over().await.unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
}
