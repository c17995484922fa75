//! A private RabbitMQ node that a claim may kill, freeze, or drive into a memory alarm.
//!
//! Everything is the node's own: folders, ports, cookie, and its `epmd` (Erlang's port mapper, which would otherwise
//! outlive the node and be shared with the machine's). Works with RabbitMQ 3.10 and 4.
//!
//! `COUNTERSIGN_TEST_RABBITMQ_BIN` names another folder in which to find `rabbitmq-server`, `rabbitmqctl` and,
//! perhaps, `epmd`.

use std::{
    env,
    fs::{self, File, Permissions},
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use lapin::{Connection, ConnectionProperties};
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::port::free_port;
use super::process::{Process, Signal, freeze, signal};
use super::watchdog::Folder;
use crate::wait::{Span, eventually};

/// Starting takes 5 to 6 seconds on an idle machine; claims also run on busy ones.
const START_LIMIT: Duration = Duration::from_secs(90);

/// How many private nodes there may be at a time: each takes a second of processor time to start, some 150 MB, and its
/// claim brings load.
const PRIVATE_NODES_MOST: usize = 2;

static PRIVATE_NODES: Semaphore = Semaphore::const_new(PRIVATE_NODES_MOST);

/// The administrator that every new node has; from loopback alone.
const ADMINISTRATOR: &str = "guest";

const NODE: &str = "rabbit@localhost";

static SHARED: OnceCell<Arc<Broker>> = OnceCell::const_new();

/// The node that all claims share which need no more than a namespace of their own: started once, when first asked for.
/// Do it no harm.
pub async fn shared_broker() -> Arc<Broker> {
    SHARED
        .get_or_init(async || Arc::new(Broker::launched(None).await))
        .await
        .clone()
}

/// Waits until so many private nodes may be started.
pub(crate) async fn turns(nodes: u32) -> SemaphorePermit<'static> {
    let turns = PRIVATE_NODES.acquire_many(nodes.min(PRIVATE_NODES_MOST as u32));
    turns.await.expect("a semaphore that is never closed")
}

/// What a node is called, where it listens, and what else its configuration says.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) amqp_port: u16,
    pub(crate) distribution_port: u16,
    pub(crate) epmd_port: u16,
    pub(crate) cookie: String,
    /// Lines of `rabbitmq.conf`.
    pub(crate) settings: String,
}

/// One RabbitMQ node. Dies with this value.
#[derive(Debug)]
pub struct Broker {
    server: Mutex<Option<Process>>,
    _epmd: Option<Process>,
    seat: Seat,
    environment: Vec<(&'static str, String)>,
    folder: Folder,
    // Given back last, when the node is gone.
    _turn: Option<SemaphorePermit<'static>>,
}

impl Broker {
    /// Starts a node of the claim's own, when it is its turn: at most two such claims run at a time, so none may have
    /// two nodes. Returns when the node accepts a login.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::launched(Some(turns(1).await)).await
    }

    /// The same, with more lines in its `rabbitmq.conf`.
    pub async fn start_with(settings: &str) -> Self {
        Self::launched_with(Some(turns(1).await), settings).await
    }

    async fn launched(turn: Option<SemaphorePermit<'static>>) -> Self {
        Self::launched_with(turn, "").await
    }

    async fn launched_with(turn: Option<SemaphorePermit<'static>>, settings: &str) -> Self {
        let folder = Folder::new("rabbitmq");
        let seat = Seat {
            name: NODE.to_owned(),
            amqp_port: free_port(),
            distribution_port: free_port(),
            epmd_port: free_port(),
            cookie: format!("{:032x}", rand::random::<u128>()),
            settings: settings.to_owned(),
        };
        let epmd = start_epmd(seat.epmd_port, &folder).await;
        let mut broker = Self::seated(seat, folder);
        broker._epmd = Some(epmd);
        broker._turn = turn;
        broker.launch().await;
        broker
    }

    /// A node that has not started yet, whose `epmd` is there already.
    pub(crate) fn seated(seat: Seat, folder: Folder) -> Self {
        Self {
            server: Mutex::new(None),
            _epmd: None,
            environment: environment(&folder, &seat),
            seat,
            folder,
            _turn: None,
        }
    }

    /// The URL under which the administrator logs in.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(ADMINISTRATOR)
    }

    /// The URL under which `user` logs in, whose password is its name.
    #[must_use]
    pub fn url_of(&self, user: &str) -> String {
        format!("amqp://{user}:{user}@127.0.0.1:{}/%2f", self.seat.amqp_port)
    }

    /// The port of AMQP, the same in all its lives.
    #[must_use]
    pub fn amqp_port(&self) -> u16 {
        self.seat.amqp_port
    }

    /// Has the node listen on `[::1]`, too, and returns the port.
    pub async fn listen_on_ipv6(&self) -> u16 {
        let port = free_port();
        let listen = format!("rabbit_networking:start_tcp_listener({{\"::1\", {port}}}, 2).");
        self.ctl(&["eval", &listen]).await;
        port
    }

    /// Adds a user with these permissions on the vhost `/`, and returns its URL. Each permission is a regular
    /// expression over names of queues and exchanges (<https://www.rabbitmq.com/docs/access-control>).
    pub async fn add_user(&self, name: &str, configure: &str, write: &str, read: &str) -> String {
        let permissions = [configure, write, read].map(ToOwned::to_owned);
        self.add_users(&[(name.to_owned(), permissions)]).await;
        self.url_of(name)
    }

    /// Adds users with what each may configure, write and read, as [`Broker::add_user`] does, all by one call: `rabbitmqctl`
    /// starts an Erlang machine each time.
    pub async fn add_users(&self, users: &[(String, [String; 3])]) {
        // Rust and Erlang write such texts alike.
        let text = |text: &String| format!("<<{text:?}>>");
        let user = |(name, permissions): &(String, [String; 3])| {
            let [configure, write, read] = permissions.each_ref().map(text);
            format!("{{{}, {configure}, {write}, {read}}}", text(name))
        };
        let users: Vec<_> = users.iter().map(user).collect();
        self.ctl(&[
            "eval",
            &format!(
                "[begin
                    ok = rabbit_auth_backend_internal:add_user(Name, Name, <<\"tests\">>),
                    ok = rabbit_auth_backend_internal:set_permissions(Name, <<\"/\">>, Configure, Write, Read, <<\"tests\">>)
                end || {{Name, Configure, Write, Read}} <- [{}]].",
                users.join(", ")
            ),
        ])
        .await;
    }

    /// Has the node write down which quorum queues there are. It does so by itself only half a second after each is
    /// declared; one that the node's death overtakes comes back without a leader, for ever (RabbitMQ 3.10). No claim of
    /// ours is about that.
    pub async fn settle(&self) {
        self.ctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]).await;
    }

    /// Kills the node, as a power cut would. See [`Broker::settle`] for queues just declared.
    pub fn kill(&self) {
        self.server().take();
    }

    /// Brings the node back: the same data, the same port. Kills it first if it lives.
    pub async fn restart(&self) {
        self.kill();
        self.launch().await;
    }

    /// Stops the node in its tracks: its sockets stay open, and nothing answers.
    pub async fn freeze(&self) {
        freeze(self.beam()).await;
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) {
        signal(self.beam(), Signal::Continue);
    }

    /// Raises the memory alarm, at which the node stops reading from anyone who publishes, or calms it again. Returns when
    /// the node says that it is so.
    pub async fn memory_alarm(&self, on: bool) {
        let watermark = if on { "0.000001" } else { "0.6" };
        self.ctl(&["set_vm_memory_high_watermark", watermark]).await;
        eventually(30.s(), "the memory alarm changes", async || {
            let alarms = self.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await;
            if alarms.contains("memory") == on {
                Ok(())
            } else {
                Err(alarms)
            }
        })
        .await;
    }

    /// The queues and how many messages wait in each, ready and unacknowledged, as the node last counted them (which
    /// for a quorum queue is up to 5 s old: ask [`crate::Queue::count`] for what is exact). Of a queue that is just being declared
    /// it says nothing, which is none.
    pub async fn list_queues(&self) -> Vec<(String, u64)> {
        let table = self
            .ctl(&["list_queues", "--silent", "--no-table-headers", "name", "messages"])
            .await;
        table
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, count)| (name.to_owned(), count.trim().parse().unwrap_or_default()))
            .collect()
    }

    /// How many bytes of bodies wait in the queues whose names begin like that, as the node last counted them.
    pub async fn queue_bytes(&self, prefix: &str) -> u64 {
        let columns = ["list_queues", "--silent", "--no-table-headers", "name", "message_bytes"];
        let table = self.ctl(&columns).await;
        let of_prefix = table.lines().filter(|line| line.starts_with(prefix));
        of_prefix
            .filter_map(|line| line.split_once('\t')?.1.trim().parse::<u64>().ok())
            .sum()
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.tool("rabbitmqctl", arguments).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?} fails: {printed}{complaint}"
        );
        printed
    }

    /// Runs one of RabbitMQ's tools (`rabbitmqctl`, `rabbitmq-diagnostics`, …) for this node, and waits for its end.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn tool(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(program(name));
        command
            .args(["-n", &self.seat.name])
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.output().await.expect("it starts")
    }

    pub(crate) async fn launch(&self) {
        // An old pid file would have us signal an id that may by now be another's.
        let _ = fs::remove_file(self.folder.join("pid"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("output"))
            .expect("a log file");
        let server = Process::spawn(
            Command::new(program("rabbitmq-server"))
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                // The script then turns into the node, rather than stand guard over it as its parent.
                .env("RUNNING_UNDER_SYSTEMD", "true")
                .env_remove("NOTIFY_SOCKET")
                // A node that dies may leave a dump where it stands.
                .current_dir(self.folder.path())
                .stdout(output.try_clone().expect("a second handle"))
                .stderr(output),
        );
        *self.server() = Some(server);
        eventually(START_LIMIT, "RabbitMQ accepts a login", async || {
            let ended = self.server().as_mut().and_then(Process::exit_status);
            assert!(
                ended.is_none(),
                "RabbitMQ ended at its start: {ended:?}\n{}",
                self.output()
            );
            let login = timeout(5.s(), Connection::connect(&self.url(), ConnectionProperties::default())).await;
            let connection = login
                .map_err(|_| "no answer".to_owned())?
                .map_err(|error| error.to_string())?;
            connection
                .close(200, "done".into())
                .await
                .map_err(|error| error.to_string())
        })
        .await;
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// The process id of the node itself.
    fn beam(&self) -> u32 {
        assert!(self.server().is_some(), "the node is not running");
        let pid = fs::read_to_string(self.folder.join("pid")).expect("RabbitMQ writes a pid file");
        pid.trim().parse().expect("a process id")
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

fn environment(folder: &Folder, seat: &Seat) -> Vec<(&'static str, String)> {
    let home = folder.join("home");
    fs::create_dir(&home).expect("a home for the node");
    let cookie = home.join(".erlang.cookie");
    fs::write(&cookie, &seat.cookie).expect("a cookie");
    // Erlang refuses a cookie that others may read.
    fs::set_permissions(&cookie, Permissions::from_mode(0o400)).expect("its mode");
    // The machine's own disk and memory are not what is tested.
    let settings = folder.write(
        "rabbitmq.conf",
        format!(
            "disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.relative = 0.6\n{}",
            seat.settings
        ),
    );
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    let text = |path: PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    vec![
        ("HOME", text(home)),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("ERL_EPMD_PORT", seat.epmd_port.to_string()),
        ("RABBITMQ_NODENAME", seat.name.clone()),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODE_PORT", seat.amqp_port.to_string()),
        ("RABBITMQ_DIST_PORT", seat.distribution_port.to_string()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null/none".into()),
        ("RABBITMQ_CONFIG_FILE", text(settings)),
        (
            "RABBITMQ_ADVANCED_CONFIG_FILE",
            text(folder.write("advanced.config", "[].\n")),
        ),
        (
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            text(folder.write("enabled_plugins", "[].\n")),
        ),
        ("RABBITMQ_MNESIA_BASE", text(folder.join("mnesia"))),
        ("RABBITMQ_LOG_BASE", text(folder.join("log"))),
        ("RABBITMQ_PID_FILE", text(folder.join("pid"))),
        ("ERL_CRASH_DUMP", text(folder.join("erl_crash.dump"))),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.into()),
        ("RABBITMQ_CTL_ERL_ARGS", loopback.into()),
    ]
}

async fn start_epmd(port: u16, folder: &Folder) -> Process {
    let output = File::create(folder.join("epmd")).expect("a log file");
    let epmd = Process::spawn(
        Command::new(program("epmd"))
            .args(["-address", "127.0.0.1", "-port", &port.to_string()])
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output),
    );
    eventually(10.s(), "epmd listens", async || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
    })
    .await;
    epmd
}

/// Where a program of RabbitMQ is: in the folder that was named, in Debian's (its wrappers on the path would change the
/// user), or on the path.
fn program(name: &str) -> PathBuf {
    let named = env::var_os("COUNTERSIGN_TEST_RABBITMQ_BIN").map(PathBuf::from);
    named
        .into_iter()
        .chain([PathBuf::from("/usr/lib/rabbitmq/bin")])
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}
