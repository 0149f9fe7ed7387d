//! Moves the tests into their own network and mount namespaces and, for an ordinary user, a user namespace.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Moves this process, which must not have started a thread yet, into namespaces of its own.
///
/// # Errors
/// If the machine does not allow that, a sentence that says what to enable.
pub fn enter() -> Result<(), String> {
    enter_namespaces().map_err(|(step, why)| {
        format!("the tests need network namespaces of their own, and {step} failed: {why}; {}", advice())
    })
}

fn enter_namespaces() -> Result<(), (&'static str, String)> {
    let (user, group) = (geteuid(), getegid());
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if !(user.is_root() && unshare(own).is_ok()) {
        unshare(own | CloneFlags::CLONE_NEWUSER).map_err(|e| ("unshare", e.to_string()))?;
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {user} 1"))?;
        write("/proc/self/gid_map", &format!("0 {group} 1"))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| ("making the mounts private", e.to_string()))?;
    // Holds default pid files and temporary folders; the kernel removes it with the last process of the tests.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|e| ("mounting a tmpfs on /run", e.to_string()))?;
    if !Path::new("/etc/services").exists() {
        add_services()
            .map_err(|e| ("adding /etc/services, which netbase has", format!("{e} (install netbase)")))?;
    }
    Ok(())
}

/// Puts a list of services into `/etc`, as the tests see it: a bare Debian has none, and the client looks up ports by
/// name in it.
fn add_services() -> io::Result<()> {
    let folder = "/run/etc-with-services";
    fs::create_dir(folder)?;
    // It becomes /etc, also for users whose privileges are dropped.
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    fs::write(format!("{folder}/services"), "ssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\n")?;
    let layers = format!("lowerdir={folder}:/etc");
    Ok(mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(&*layers))?)
}

fn write(path: &'static str, text: &str) -> Result<(), (&'static str, String)> {
    fs::write(path, text).map_err(|e| (path, e.to_string()))
}

/// The settings that may forbid it, with their present values.
fn advice() -> String {
    let switches = [
        ("kernel.unprivileged_userns_clone", "1"),
        ("user.max_user_namespaces", "a number such as 1000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ];
    let switches = switches.map(|(name, wanted)| {
        let now = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        let now = now.map_or("not there".to_owned(), |value| format!("now {}", value.trim()));
        format!("{name} = {wanted} ({now})")
    });
    format!("run them as root, or let ordinary users make user namespaces: sysctl {}", switches.join(", "))
}
