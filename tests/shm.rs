//! The size of `/dev/shm`, and whose memory it is.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own directories")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{ExecSpec, Harness, Spec, Task};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::{FsFlags, statvfs},
};
use serde_json::{Value, json};

harness::on_curfew_alone![
    a_container_without_a_pod_has_the_shm_it_asks_for_and_no_more,
    the_shm_that_a_spec_brings_is_kept_under_the_nodes_ceiling,
    a_pods_shm_has_the_size_it_asks_for_and_its_containers_share_it,
    what_one_container_of_a_pod_maps_there_another_sees_change,
    what_is_in_shm_counts_in_the_pods_memory,
];

const SHM_SIZE: &str = "curfew.dev/shm-size";
const MIB: u64 = 1 << 20;

/// What a shell in the container says; it has to succeed.
#[track_caller]
fn ask(task: &Task, script: &str) -> String {
    let exec = task.exec(&ExecSpec::new(["sh", "-c", script]).edit(|_| {})).unwrap();
    exec.start().unwrap();
    let status = exec.wait().unwrap().status;
    let said = exec.stdout();
    exec.delete().unwrap();
    assert_eq!(status, 0, "{script}: {said}");
    said
}

/// Bytes of `/dev/shm` as the container sees them.
#[track_caller]
fn size(task: &Task) -> u64 {
    let said = ask(task, "stat -f -c '%b %S' /dev/shm");
    let numbers: Vec<u64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers[0] * numbers[1]
}

/// Writes so many mebibytes to a file there, and says how many fitted and what was said about the rest.
#[track_caller]
fn fill(task: &Task, file: &str, mib: u64) -> (u64, String) {
    let script = format!(
        "dd if=/dev/zero of=/dev/shm/{file} bs=1M count={mib} 2>&1 | grep -o 'No space left on device'; \
         stat -c %s /dev/shm/{file}"
    );
    let said = ask(task, &script);
    let (rest, bytes) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    (bytes.parse::<u64>().unwrap() / MIB, rest.to_owned())
}

#[track_caller]
fn holds_just(task: &Task, mib: u64) {
    assert_eq!(size(task), mib * MIB);
    assert_eq!(fill(task, "most", mib - 1), (mib - 1, String::new()));
    let (fitted, said) = fill(task, "more", 8);
    assert!(fitted <= 1, "{fitted}");
    assert_eq!(said, "No space left on device");
    ask(task, "rm /dev/shm/most /dev/shm/more");
}

fn a_container_without_a_pod_has_the_shm_it_asks_for_and_no_more(h: &Harness) {
    for (asked, mib) in [("16Mi", 16), ("200Mi", 200)] {
        let task = h.start(Spec::sleeper().annotation(SHM_SIZE, asked));
        holds_just(&task, mib);
        task.end().unwrap();
    }
    let task = h.start(Spec::sleeper().annotation(SHM_SIZE, "2Gi"));
    assert_eq!(size(&task), 1 << 30);
    task.end().unwrap();
}

fn shm_option(json: &mut Value, option: Option<&str>) {
    let mounts = json["mounts"].as_array_mut().unwrap();
    let shm = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/shm").unwrap();
    let options = shm["options"].as_array_mut().unwrap();
    options.retain(|option| !option.as_str().unwrap().starts_with("size="));
    options.extend(option.map(|option| json!(option)));
}

fn the_shm_that_a_spec_brings_is_kept_under_the_nodes_ceiling(h: &Harness) {
    for (option, bytes) in [
        (None, 64 * MIB),
        (Some("size=32m"), 32 * MIB),
        (Some("size=8g"), 1 << 30),
        (Some("size=90%"), 64 * MIB),
    ] {
        let task = h.start(Spec::sleeper().edit(|json| shm_option(json, option)));
        assert_eq!(size(&task), bytes, "{option:?}");
        task.end().unwrap();
    }
}

/// The file system that CRI makes for a pod, where containerd has such on every node.
struct CriShm {
    dir: PathBuf,
}

impl CriShm {
    fn new(h: &Harness, sandbox: &str) -> Self {
        let dir = Path::new("/run/containerd").join(h.containerd.namespace()).join("sandboxes").join(sandbox);
        let dir = dir.join("shm");
        fs::create_dir_all(&dir).unwrap();
        let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("shm"), &dir, Some("tmpfs"), flags, Some("mode=1777,size=67108864")).unwrap();
        Self { dir }
    }

    /// As CRI gives it to every container of the pod.
    fn of(&self, spec: Spec) -> Spec {
        let mount = json!({
            "destination": "/dev/shm", "type": "bind", "source": self.dir, "options": ["rbind", "rw", "nosuid"],
        });
        spec.edit(|json| {
            let mounts = json["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/dev/shm");
            mounts.push(mount);
        })
    }

    fn bytes(&self) -> u64 {
        let now = statvfs(&self.dir).unwrap();
        now.blocks() * now.fragment_size()
    }
}

impl Drop for CriShm {
    fn drop(&mut self) {
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        // Those that are empty now; another test, or the node's own containerd, may be using the upper ones.
        for dir in self.dir.ancestors().take_while(|dir| *dir != Path::new("/run")) {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn pod(h: &Harness, shm: &CriShm, asked: Option<&str>) -> [Task; 3] {
    let mut pause = shm.of(Spec::sleeper().sandbox("pause"));
    if let Some(asked) = asked {
        pause = pause.annotation(SHM_SIZE, asked);
    }
    let pause = h.start(pause);
    let [one, other] =
        ["one", "other"].map(|id| h.start(shm.of(Spec::sleeper()).id(id).container_of("pause", pause.pid())));
    [other, one, pause]
}

fn end(pod: [Task; 3]) {
    for task in pod {
        task.end().unwrap();
    }
}

fn a_pods_shm_has_the_size_it_asks_for_and_its_containers_share_it(h: &Harness) {
    for (asked, mib) in [(None, 64), (Some("16Mi"), 16), (Some("200Mi"), 200)] {
        let shm = CriShm::new(h, "pause");
        let pod = pod(h, &shm, asked);
        assert_eq!(shm.bytes(), mib * MIB);
        let flags = statvfs(&shm.dir).unwrap().flags();
        for flag in [FsFlags::ST_NOSUID, FsFlags::ST_NODEV, FsFlags::ST_NOEXEC] {
            assert!(flags.contains(flag), "{flags:?}");
        }
        let [one, other, _] = &pod;
        holds_just(one, mib);
        assert_eq!(size(other), mib * MIB);
        ask(one, "echo shared > /dev/shm/file");
        assert_eq!(ask(other, "cat /dev/shm/file; rm /dev/shm/file"), "shared\n");
        end(pod);
    }
}

/// Waits for the other's answer in memory that both have mapped.
const MAPPED: &str = "
import mmap, os, sys, time
fd = os.open('/dev/shm/mapped', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 20)
memory = mmap.mmap(fd, 1 << 20)
mine, other = int(sys.argv[1]), int(sys.argv[2])
memory[mine] = 1
while memory[other] != 1:
    time.sleep(0.01)
memory[mine + 2] = 1
while memory[other + 2] != 1:
    time.sleep(0.01)
";

fn what_one_container_of_a_pod_maps_there_another_sees_change(h: &Harness) {
    let shm = CriShm::new(h, "pause");
    let pause = h.start(shm.of(Spec::sleeper().sandbox("pause")));
    let pair = [("0", "1"), ("1", "0")].map(|(mine, other)| {
        let spec =
            Spec::new(["python3", "-c", MAPPED, mine, other]).image("python").id(format!("mapped{mine}"));
        h.start(shm.of(spec).container_of("pause", pause.pid()))
    });
    for task in pair {
        assert_eq!(task.wait().unwrap().status, 0);
        task.delete().unwrap();
    }
    pause.end().unwrap();
}

/// Bytes that the pod's cgroup says it uses.
fn memory(h: &Harness, id: &str) -> u64 {
    let own = format!("{}/{id}", h.containerd.namespace());
    let names = ["memory.usage_in_bytes", "memory.current"];
    let files = harness::machine::cgroups().into_iter().filter(|dir| dir.ends_with(&own));
    let text =
        files.flat_map(|dir| names.map(|name| dir.join(name))).find_map(|file| fs::read_to_string(file).ok());
    text.unwrap().trim().parse().unwrap()
}

fn what_is_in_shm_counts_in_the_pods_memory(h: &Harness) {
    let grows_by = |root: &str, task: &Task| {
        let before = memory(h, root);
        assert_eq!(fill(task, "file", 150), (150, String::new()));
        memory(h, root).saturating_sub(before) / MIB
    };
    let plain = h.start(Spec::sleeper().id("plain").annotation(SHM_SIZE, "200Mi"));
    let grown = grows_by("plain", &plain);
    assert!((148..160).contains(&grown), "{grown} MiB");
    plain.end().unwrap();
    let shm = CriShm::new(h, "pause");
    let pod = pod(h, &shm, Some("200Mi"));
    let grown = grows_by("pause", &pod[0]);
    assert!((148..160).contains(&grown), "{grown} MiB");
    end(pod);
}
