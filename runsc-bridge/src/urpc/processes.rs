//! The processes of a container, as its sentry lists them.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;

use crate::{ContainerId, ControlSocket, RunscError};

/// A process in a container, by the pids that the container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct GuestProcess {
    pub pid: i32,
    /// Its parent; 0 where the container sees none.
    #[serde(rename = "ppid")]
    pub parent: i32,
}

impl ControlSocket {
    /// The processes of a container; none of one that the sentry doesn't know.
    ///
    /// # Errors
    /// The sandbox doesn't answer.
    pub async fn processes(
        &self,
        container: &ContainerId,
        limit: Duration,
    ) -> Result<Vec<GuestProcess>, RunscError> {
        let id = container.as_str();
        let listed: Option<Vec<GuestProcess>> =
            self.call("containerManager.Processes", id, id, Some(limit)).await?;
        Ok(listed.unwrap_or_default())
    }
}

/// The process `root` and all that come from it, as far as their parents live.
pub fn tree_of(root: i32, all: &[GuestProcess]) -> BTreeSet<i32> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let before = tree.len();
        tree.extend(
            all.iter().filter(|process| tree.contains(&process.parent)).map(|p| p.pid).collect::<Vec<_>>(),
        );
        if tree.len() == before {
            return tree;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_a_process_and_its_descendants_in_any_order() {
        let all = [(9, 7), (1, 0), (7, 5), (5, 1), (6, 1), (8, 6)]
            .map(|(pid, parent)| GuestProcess { pid, parent });
        assert_eq!(tree_of(5, &all), BTreeSet::from([5, 7, 9]));
        assert_eq!(tree_of(4, &all), BTreeSet::from([4]));
    }

    #[test]
    fn a_sentrys_list_is_read() {
        let text = r#"[{"uid":0,"pid":1,"ppid":0,"threads":[1],"c":0,"tty":"?","stime":"14:39","time":"0s","cmd":"sh"}]"#;
        let listed: Vec<GuestProcess> = serde_json::from_str(text).unwrap();
        assert_eq!(listed, [GuestProcess { pid: 1, parent: 0 }]);
    }
}
