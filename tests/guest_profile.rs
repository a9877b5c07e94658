//! The guest's own filter of system calls: what a class demands for specs that bring none, and what becomes of theirs.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;

use harness::{ExecSpec, Harness, Options, Runtime, Spec, Task, with_options};
use serde_json::json;

/// Starts threads and programs, talks over a socket, writes a file and sets a timer.
const BASICS: &str = "
import asyncio, os, socket, subprocess, tempfile, threading
numbers = []
threads = [threading.Thread(target=numbers.append, args=(i,)) for i in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert sorted(numbers) == list(range(8))
assert subprocess.run(['sh', '-c', 'echo a | tr a b'], capture_output=True).stdout == b'b\\n'
listener = socket.socket(socket.AF_UNIX)
listener.bind('/tmp/listener')
listener.listen()
peer = socket.socket(socket.AF_UNIX)
peer.connect('/tmp/listener')
listener.accept()[0].sendall(b'x')
assert peer.recv(1) == b'x'
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
with tempfile.TemporaryDirectory() as d:
    with open(d + '/f', 'w') as f:
        f.write('x')
        os.fsync(f.fileno())
    os.rename(d + '/f', d + '/g')
    os.chmod(d + '/g', 0o600)
asyncio.run(asyncio.sleep(0.01))
os.sched_getaffinity(0)
print('works')
";

/// Makes calls by number and says how each ended.
const CALLS: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for name, *words in [word.split(':') for word in sys.argv[1:]]:
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(int(word, 0)) for word in words])
    print(name, ctypes.get_errno(), flush=True)
    if result == 0 and name == 'clone':
        os._exit(0)
";

fn in_exec<'a>(task: &Task, words: impl IntoIterator<Item = &'a str>) -> String {
    let exec = task.exec(&ExecSpec::new(words)).unwrap();
    exec.start().unwrap();
    let exit = exec.wait().unwrap();
    assert_eq!(exit.status, 0, "{}{}", exec.stdout(), exec.stderr());
    let output = exec.stdout();
    exec.delete().unwrap();
    output
}

fn seccomp_of(status: &str) -> &str {
    status.lines().find_map(|line| line.strip_prefix("Seccomp:")).unwrap().trim()
}

/// A test under a class that demands a profile, with runsc's debug log in `log`.
fn with_demanded(log: Option<&std::path::Path>, test: impl FnOnce(&Harness)) {
    let mut class = "[seccomp]\nguest = \"runtime-default\"\n".to_owned();
    if let Some(dir) = log {
        class.push_str(&format!("[runsc]\ndebug = true\ndebug_dir = {dir:?}\n"));
    }
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, test);
}

#[test]
fn a_class_can_demand_a_profile_and_init_and_execs_have_it() {
    with_demanded(None, |h| {
        let pause = h.start(Spec::sleeper().sandbox("pause"));
        let says = || Spec::new(["sh", "-c", "cat /proc/self/status; echo end; exec sleep 1000"]);
        for spec in [says(), says().container_of("pause", pause.pid())] {
            let task = h.start(spec);
            task.wait_for_output("end\n");
            assert_eq!(seccomp_of(&task.stdout_so_far()), "2");
            assert_eq!(seccomp_of(&in_exec(&task, ["cat", "/proc/self/status"])), "2");
            task.end().unwrap();
        }
        assert_eq!(seccomp_of(&in_exec(&pause, ["cat", "/proc/self/status"])), "2");
        pause.end().unwrap();
    });
}

#[test]
fn under_the_nodes_profile_programs_work_and_calls_that_need_privileges_do_not() {
    with_demanded(None, |h| {
        let output = h.run(Spec::new(["python3", "-c", BASICS]).image("python"));
        assert_eq!((output.stdout.as_str(), output.exit.status), ("works\n", 0), "{}", output.stderr);
        let shell = "mkdir /tmp/d && cp /bin/sh /tmp/d && ls -la /tmp/d | grep -c sh && (sleep 0.1 & wait) && ps | wc -l && \
                     tar -c /etc 2>/dev/null | tar -t >/dev/null && echo works";
        let output = h.run(Spec::new(["sh", "-c", shell]));
        assert!(output.stdout.ends_with("works\n"), "{}{}", output.stdout, output.stderr);

        let task = h.start(Spec::sleeper().image("python"));
        let calls = [
            "keyctl:250:0:0:0",
            "unshare:272:0x10000000",
            "mount:165:0:0:0:0:0",
            "ptrace:101:0:0:0:0",
            "bpf:321:0:0:0",
            "clone:56:0x10000011:0:0:0:0",
            "personality:135:0x0040000",
        ];
        let said = in_exec(&task, ["python3", "-c", CALLS].into_iter().chain(calls));
        for (line, call) in said.lines().zip(calls) {
            assert_eq!(line, format!("{} 1", call.split(':').next().unwrap()));
        }
        assert_eq!(said.lines().count(), calls.len());
        // What programs go on without has to be missing, and what anybody may do has to work.
        let calls = [
            "clone3:435:0:0",
            "io_uring_setup:425:0:0",
            "none:1000",
            "personality:135:0xffffffff",
            "gettid:186",
        ];
        let said = in_exec(&task, ["python3", "-c", CALLS].into_iter().chain(calls));
        assert_eq!(said, "clone3 38\nio_uring_setup 38\nnone 38\npersonality 0\ngettid 0\n");
        task.end().unwrap();
    });
}

#[test]
fn runsc_knows_every_call_of_the_nodes_profile() {
    let dir = tempfile::tempdir().unwrap();
    with_demanded(Some(dir.path()), |h| {
        // And it would say so.
        let unknown = json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" }] });
        h.run(Spec::new(["true"]));
        let before = ignored(dir.path());
        h.run(Spec::new(["true"]).edit(|json| json["linux"]["seccomp"] = unknown));
        assert_eq!((before, ignored(dir.path()).len()), (Vec::<String>::new(), 1));
    });
}

/// What runsc's logs say of calls that it doesn't know.
fn ignored(dir: &std::path::Path) -> Vec<String> {
    let logs = fs::read_dir(dir).unwrap().map(|log| fs::read(log.unwrap().path()).unwrap());
    let text: Vec<String> = logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect();
    assert!(text.iter().any(|log| log.contains("seccomp")), "no log speaks of it");
    let lines = text.iter().flat_map(|log| log.lines());
    lines.filter(|line| line.contains("ignoring syscall")).map(str::to_owned).collect()
}

/// Becomes a tracer of its child with and without the option to see filtered calls.
const TRACERS: &str = "
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    signal.pause()
def ptrace(request, data):
    ctypes.set_errno(0)
    libc.syscall(101, ctypes.c_long(request), ctypes.c_long(child), ctypes.c_long(0), ctypes.c_long(data))
    print(ctypes.get_errno(), flush=True)
ptrace(0x4206, 0x80)
ptrace(0x4206 + (1 << 32), 0x80)
ptrace(0x4206, 0)
ptrace(0x4200, 0x80)
os.kill(child, 9)
";

#[test]
fn a_call_that_a_pods_profile_calls_missing_is_missing() {
    harness::with(Runtime::Curfew, |h| {
        // What containerd's own profile says of it.
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
        let spec = |words: &[&str]| {
            let spec = Spec::new(words.iter().copied()).image("python");
            spec.edit(|json| json["linux"]["seccomp"] = profile.clone())
        };
        let output = h.run(spec(&["python3", "-c", BASICS]));
        assert_eq!((output.stdout.as_str(), output.exit.status), ("works\n", 0), "{}", output.stderr);
        let output = h.run(spec(&["python3", "-c", CALLS, "clone3:435:0:0"]));
        assert_eq!(output.stdout, "clone3 38\n", "{}", output.stderr);
        // No tracer can let it happen all the same.
        let output = h.run(spec(&["python3", "-c", TRACERS]));
        let errors: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(errors.len(), 4, "{output:?}");
        assert_ne!(errors[1], "0", "{output:?}");
        assert_eq!((errors[0], errors[2], errors[3]), ("1", "0", "1"), "{output:?}");
    });
}
