//! containerd's protocol: protobuf messages stop here.

pub(crate) mod bootstrap;
pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod request;
pub(crate) mod task;

use std::time::SystemTime;

use protobuf::{MessageField, well_known_types::timestamp::Timestamp};

fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(at))
}
