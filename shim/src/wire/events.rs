//! Events as containerd's event service takes them.

use std::time::SystemTime;

use containerd_shim_protos::{
    api::ForwardRequest,
    events::task::{
        TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM,
        TaskPaused, TaskResumed, TaskStart,
    },
    shim::event::Envelope,
    shim_async::{Client, EventsClient},
    types::mount::Mount,
};
use protobuf::{MessageField, well_known_types::any::Any};
use ttrpc::context;

use super::timestamp;
use crate::{events::Event, process::Exit, rootfs::RootfsMount};

/// A connection to containerd's event service, made when it is needed and made anew when it breaks.
pub(crate) struct Publisher {
    address: String,
    namespace: String,
    client: Option<EventsClient>,
}

impl Publisher {
    /// A publisher for the ttrpc socket at `address`.
    pub(crate) fn new(address: String, namespace: String) -> Self {
        let address =
            if address.is_empty() || address.contains("://") { address } else { format!("unix://{address}") };
        Self { address, namespace, client: None }
    }

    /// Sends one event. An event that containerd refuses is logged and counts as sent: it would never take it.
    ///
    /// # Errors
    /// containerd cannot be reached; the event has to be sent again.
    pub(crate) async fn publish(&mut self, event: &Event, at: SystemTime) -> Result<(), ttrpc::Error> {
        if self.address.is_empty() {
            return Ok(());
        }
        let client = match self.client.take() {
            Some(client) => client,
            None => EventsClient::new(Client::connect(&self.address).await?),
        };
        let (topic, event) = encode(event)?;
        let envelope = Envelope {
            timestamp: timestamp(at),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(event),
            ..Envelope::default()
        };
        let request = ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() };
        // Without a limit: what a containerd that stalls has taken it has taken, and sending it again would tell it twice.
        // One that dies closes the connection.
        match client.forward(context::Context::default(), &request).await {
            Ok(_) => {}
            Err(ttrpc::Error::RpcStatus(status)) if is_refusal(&status) => {
                log::error!(topic; "containerd refused an event: {}", status.message());
            }
            // The connection is dropped, and the next attempt makes a new one.
            Err(error) => return Err(error),
        }
        self.client = Some(client);
        Ok(())
    }
}

/// Whether containerd will never take the event. One that is stopping answers all sorts of things.
fn is_refusal(status: &ttrpc::proto::Status) -> bool {
    let code = status.code.enum_value_or_default();
    [ttrpc::Code::INVALID_ARGUMENT, ttrpc::Code::UNIMPLEMENTED, ttrpc::Code::NOT_FOUND].contains(&code)
}

fn encode(event: &Event) -> Result<(&'static str, Any), ttrpc::Error> {
    match event {
        Event::Create { .. } => Ok(("/tasks/create", any(&task_create(event))?)),
        Event::Start { id, pid } => {
            let message = TaskStart { container_id: id.clone(), pid: *pid, ..TaskStart::default() };
            Ok(("/tasks/start", any(&message)?))
        }
        Event::ExecAdded { id, exec } => {
            let (container_id, exec_id) = (id.clone(), exec.clone());
            let message = TaskExecAdded { container_id, exec_id, ..TaskExecAdded::default() };
            Ok(("/tasks/exec-added", any(&message)?))
        }
        Event::ExecStarted { id, exec, pid } => {
            let (container_id, exec_id, pid) = (id.clone(), exec.clone(), *pid);
            let message = TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::default() };
            Ok(("/tasks/exec-started", any(&message)?))
        }
        Event::Checkpointed { id, image } => {
            let (container_id, checkpoint) = (id.clone(), image.display().to_string());
            let message = TaskCheckpointed { container_id, checkpoint, ..TaskCheckpointed::default() };
            Ok(("/tasks/checkpointed", any(&message)?))
        }
        Event::Paused { id } => {
            let message = TaskPaused { container_id: id.clone(), ..TaskPaused::default() };
            Ok(("/tasks/paused", any(&message)?))
        }
        Event::Resumed { id } => {
            let message = TaskResumed { container_id: id.clone(), ..TaskResumed::default() };
            Ok(("/tasks/resumed", any(&message)?))
        }
        Event::Oom { id } => {
            let message = TaskOOM { container_id: id.clone(), ..TaskOOM::default() };
            Ok(("/tasks/oom", any(&message)?))
        }
        Event::Exit { id, exec, pid, exit } => {
            // Of an init it is the container's id once more.
            let of = exec.as_ref().unwrap_or(id).clone();
            Ok(("/tasks/exit", any(&task_exit(id, of, *pid, *exit))?))
        }
        Event::Delete { id, pid, exit } => Ok(("/tasks/delete", any(&task_delete(id, *pid, *exit))?)),
    }
}

/// The message of a Create; an empty one for any other event.
fn task_create(event: &Event) -> TaskCreate {
    let mut message = TaskCreate::default();
    if let Event::Create { id, pid, bundle, rootfs, stdio } = event {
        let io = TaskIO {
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            ..TaskIO::default()
        };
        message.container_id.clone_from(id);
        message.bundle = bundle.display().to_string();
        message.rootfs = rootfs.iter().map(mount).collect();
        message.io = MessageField::some(io);
        message.pid = *pid;
    }
    message
}

fn task_exit(container: &str, id: String, pid: u32, exit: Exit) -> TaskExit {
    TaskExit {
        container_id: container.to_owned(),
        id,
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..TaskExit::default()
    }
}

fn task_delete(container: &str, pid: u32, exit: Exit) -> TaskDelete {
    TaskDelete {
        container_id: container.to_owned(),
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..TaskDelete::default()
    }
}

fn mount(mount: &RootfsMount) -> Mount {
    Mount {
        type_: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
        ..Mount::default()
    }
}

/// containerd names event types by their bare full name, without a URL in front. Spelt out, because asking the message
/// itself would bring the descriptors of every protocol file into the shim.
fn any<M: protobuf::Message>(message: &M) -> Result<Any, ttrpc::Error> {
    let value = message.write_to_bytes().map_err(|e| ttrpc::Error::Others(e.to_string()))?;
    Ok(Any { type_url: format!("containerd.events.{}", M::NAME), value, ..Any::default() })
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;

    #[test]
    fn an_exit_names_its_container_twice_and_has_its_bare_type() {
        let event = Event::Exit { id: "c".into(), exec: None, pid: 7, exit: Exit::now(124) };
        let (topic, any) = encode(&event).unwrap();
        assert_eq!((topic, any.type_url.as_str()), ("/tasks/exit", "containerd.events.TaskExit"));
        let message = TaskExit::parse_from_bytes(&any.value).unwrap();
        assert_eq!((message.id.as_str(), message.exit_status), ("c", 124));
        assert_ne!(message.exited_at.seconds, 0);
    }
}
