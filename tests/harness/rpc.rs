//! A call's error as tests compare it, and the thread that carries calls.

use std::fmt;
use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use containerd_client::tonic;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long a call may take unless a test says otherwise.
pub const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Why a call to containerd or to a shim failed.
#[derive(Debug, Clone)]
pub struct RpcError {
    pub code: Code,
    pub message: String,
}

/// gRPC's and ttrpc's status codes, which are the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
    /// No answer within the limit of the harness.
    NoAnswer,
    /// The call never got to the other side, or the connection broke.
    Transport,
}

impl Code {
    /// The code of that number in the protocols.
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}

impl RpcError {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for RpcError {}

impl From<tonic::Status> for RpcError {
    fn from(status: tonic::Status) -> Self {
        Self::new(Code::from_number(status.code().into()), status.message())
    }
}

impl From<ttrpc::Error> for RpcError {
    fn from(error: ttrpc::Error) -> Self {
        if let ttrpc::Error::RpcStatus(status) = &error {
            Self::new(Code::from_number(status.code() as i32), status.message())
        } else {
            Self::new(Code::Transport, error)
        }
    }
}

/// One thread with an event loop, on which every gRPC call of a test travels.
#[derive(Debug)]
pub struct Wire {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    pub(crate) fn start() -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (send_handle, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("an event loop needs only a few descriptors");
            // The receiver waits for just this; and an error of `stopped` means dropped.
            let _ = send_handle.send(runtime.handle().clone());
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle: handle.recv().expect("the thread sends before anything can fail"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The answer to a call, or an error when none comes within the limit.
    pub(crate) fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RpcError> {
        self.handle.block_on(async {
            match tokio::time::timeout(limit, call).await {
                Ok(answer) => Ok(answer?.into_inner()),
                Err(_) => Err(RpcError::new(Code::NoAnswer, format_args!("no answer within {limit:?}"))),
            }
        })
    }

    /// Lets a future run beside the test.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(future)
    }

    /// Blocks for a future of which only its own limits are known.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the test's own result matters more.
            let _ = thread.join();
        }
    }
}

/// Calls `done` every few milliseconds until it gives something or the limit passes.
pub fn poll<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = std::time::Instant::now() + limit;
    loop {
        if let Some(found) = done() {
            return Some(found);
        }
        if std::time::Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
