use std::process::{Child, Command};

use super::*;
use crate::durable::replace;

#[expect(clippy::disallowed_methods, reason = "somebody to be killed")]
fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn list(members: &[&Child]) -> String {
    members.iter().map(|member| format!("{}\n", member.id())).collect()
}

fn is_killed(mut child: Child) -> bool {
    use std::os::unix::process::ExitStatusExt;
    child.wait().unwrap().signal() == Some(9)
}

#[test]
fn the_members_of_one_hierarchy_are_killed_and_who_left_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (empty, full) = (root.path().join("empty"), root.path().join("full"));
    for directory in [&empty, &full] {
        fs::create_dir(directory).unwrap();
        replace(&directory.join("cgroup.procs"), b"").unwrap();
    }
    let cgroup = Cgroup::of_directories(vec![full.clone(), empty]);
    assert!(cgroup.condemned().is_none());
    let (member, mut bystander) = (sleeper(), sleeper());
    replace(&full.join("cgroup.procs"), list(&[&member]).as_bytes()).unwrap();
    cgroup.condemned().unwrap().kill();
    assert!(is_killed(member));
    let left = open_all(&[bystander.id().cast_signed()], BTreeSet::new);
    assert!(left.is_empty());
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn with_a_file_for_it_the_kernel_kills_them_all_and_without_one_each_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let member = sleeper();
    replace(&root.path().join("cgroup.procs"), list(&[&member]).as_bytes()).unwrap();
    let file = root.path().join(KILL);
    replace(&file, b"").unwrap();
    let cgroup = Cgroup::at(root.path().to_owned());
    cgroup.condemned().unwrap().kill();
    assert_eq!(fs::read(&file).unwrap(), b"1");
    // A file that cannot be written to.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    cgroup.condemned().unwrap().kill();
    assert!(is_killed(member));
}

#[test]
fn more_than_there_are_descriptors_for_are_killed_too() {
    let root = tempfile::tempdir().unwrap();
    let members: Vec<Child> = (0..BATCH + 3).map(|_| sleeper()).collect();
    let all: Vec<&Child> = members.iter().collect();
    replace(&root.path().join("cgroup.procs"), list(&all).as_bytes()).unwrap();
    let condemned = Cgroup::at(root.path().to_owned()).condemned().unwrap();
    assert_eq!(condemned.found.len(), BATCH);
    condemned.kill();
    assert!(members.into_iter().all(is_killed));
}

#[test]
fn another_directory_at_the_same_place_is_not_the_same() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    for directory in [&first, &second] {
        fs::create_dir(directory).unwrap();
    }
    let cgroup = Cgroup::of_directories(vec![first.clone(), second.clone(), root.path().join("none")]);
    let inodes = cgroup.inodes();
    // Moved away and not removed: other file systems use a number again.
    fs::rename(&first, root.path().join("away")).unwrap();
    fs::create_dir(&first).unwrap();
    fs::create_dir(root.path().join("none")).unwrap();
    assert_eq!(cgroup.still(&inodes).directories(), [second]);
}
