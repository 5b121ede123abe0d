//! Threads, phases and the closed loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::args::{Args, Target};
use super::error::{Error, Failure};
use super::etcd_grpc::EtcdGrpc;
use super::http::{Caucus, EtcdGateway, HttpConnection};
use super::keyspace::{Keyspace, Random};
use super::process::Reading;
use super::tally::Tally;
use super::target::Connection;
use super::workload::Requests;
use super::zookeeper::Session;

/// Between a broken connection and the next attempt: a server that is down must not make the load
/// generator spin.
const PAUSE_AFTER_BREAK: Duration = Duration::from_millis(50);

/// How long a request may stay unanswered before the load, and when the load has ended. Under load
/// nobody looks at the clock: a timer a request would cost more than it tells.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// When the load is measured; the same for all threads.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    from: Instant,
    until: Instant,
}

/// What a run has seen.
#[derive(Debug)]
pub(super) struct Outcome {
    /// All clients together.
    pub(super) tally: Tally,
    /// What was used inside the measured window.
    pub(super) used: Reading,
    /// What else there is to say, by its name.
    pub(super) figures: Vec<(&'static str, f64)>,
}

/// Connects, preloads, loads and measures.
pub(super) async fn drive(args: Arc<Args>) -> Result<Outcome, Error> {
    let keyspace = Arc::new(Keyspace::new(&args));
    let (prepared, mut preparations) = mpsc::unbounded_channel();
    let (start, schedule) = watch::channel(None);
    let mut threads = JoinSet::new();
    for number in 0..args.threads() {
        let thread = LoadThread {
            args: Arc::clone(&args),
            keyspace: Arc::clone(&keyspace),
            number,
            prepared: prepared.clone(),
            schedule: schedule.clone(),
        };
        threads.spawn_blocking(move || thread.run());
    }
    for _ in 0..args.threads() {
        let answer = preparations.recv().await;
        answer.unwrap_or_else(|| Err(Error::Thread("it ended early".to_owned())))?;
    }

    let from = Instant::now() + args.warmup;
    let until = from + args.duration;
    start.send_replace(Some(Schedule { from, until }));
    tokio::time::sleep_until(from.into()).await;
    let before = Reading::take(&args.pids)?;
    tokio::time::sleep_until(until.into()).await;
    let after = Reading::take(&args.pids)?;

    let mut tally = Tally::new();
    while let Some(result) = threads.join_next().await {
        tally.merge(result.map_err(|error| Error::Thread(error.to_string()))??);
    }
    Ok(Outcome {
        tally,
        used: after.since(&before),
        figures: Vec::new(),
    })
}

/// One thread with its share of the clients. Each has its own single-threaded runtime: no request
/// moves between cores, and no lock is taken for it.
struct LoadThread {
    args: Arc<Args>,
    keyspace: Arc<Keyspace>,
    number: usize,
    prepared: mpsc::UnboundedSender<Result<(), Error>>,
    schedule: watch::Receiver<Option<Schedule>>,
}

impl LoadThread {
    fn run(self) -> Result<Tally, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Thread(error.to_string()))?;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            match self.args.target {
                Target::Caucus => self.load::<HttpConnection<Caucus>>().await,
                Target::EtcdJson => self.load::<HttpConnection<EtcdGateway>>().await,
                Target::EtcdGrpc => self.load::<EtcdGrpc>().await,
                Target::Zookeeper => self.load::<Session>().await,
            }
        })
    }

    async fn load<C: Connection>(mut self) -> Result<Tally, Error> {
        let clients = match self.prepare::<C>().await {
            Ok(clients) => clients,
            Err(error) => {
                // The receiver is gone only if another thread has failed before.
                let _ = self.prepared.send(Err(error));
                return Ok(Tally::new());
            }
        };
        let _ = self.prepared.send(Ok(()));
        let schedule = match self.schedule.wait_for(Option::is_some).await {
            Ok(schedule) => *schedule,
            Err(_) => None,
        };
        match schedule {
            Some(schedule) => Ok(self.measure(clients, schedule).await),
            None => Ok(Tally::new()),
        }
    }

    /// Opens this thread's connections, hands them to its clients, and writes its share of the keys.
    async fn prepare<C: Connection>(&self) -> Result<Vec<Rc<Mutex<C>>>, Error> {
        let args = &self.args;
        let mut connections = Vec::new();
        for number in (self.number..args.connections()).step_by(args.threads()) {
            let endpoint = &args.endpoints[number % args.endpoints.len()];
            let opened = in_time(C::open(args, endpoint)).await;
            let opened = opened.map_err(|failure| prepare_error(endpoint, &failure))?;
            connections.push(Rc::new(Mutex::new(opened)));
        }
        let mut clients = Vec::new();
        for (client, _) in (self.number..args.clients)
            .step_by(args.threads())
            .enumerate()
        {
            let connection = &connections[client % connections.len()];
            let own = connection.lock().await.share();
            clients.push(own.map_or_else(|| Rc::clone(connection), |own| Rc::new(Mutex::new(own))));
        }
        if !args.skip_preload {
            self.preload(&clients).await?;
        }
        Ok(clients)
    }

    /// Writes every key of this thread once.
    async fn preload<C: Connection>(&self, clients: &[Rc<Mutex<C>>]) -> Result<(), Error> {
        let mut writers = JoinSet::new();
        for (local, client) in clients.iter().enumerate() {
            let (client, keyspace) = (Rc::clone(client), Arc::clone(&self.keyspace));
            let first = self.number + local * self.args.threads();
            let step = self.args.clients;
            writers.spawn_local(async move {
                let mut random = Random::new(first as u64);
                for index in (first..keyspace.len()).step_by(step) {
                    let pair = keyspace.pair(index, &mut random);
                    in_time(client.lock().await.preload(pair)).await?;
                }
                Ok(())
            });
        }
        while let Some(result) = writers.join_next().await {
            let result = result.map_err(|error| Error::Thread(error.to_string()))?;
            result.map_err(|failure| prepare_error("the servers", &failure))?;
        }
        Ok(())
    }

    /// Runs the closed loop of every client until the schedule ends.
    async fn measure<C: Connection>(
        &self,
        clients: Vec<Rc<Mutex<C>>>,
        schedule: Schedule,
    ) -> Tally {
        let tally = Rc::new(RefCell::new(Tally::new()));
        let mut loops = JoinSet::new();
        for (local, client) in clients.iter().enumerate() {
            let (client, tally) = (Rc::clone(client), Rc::clone(&tally));
            let (args, keyspace) = (Arc::clone(&self.args), Arc::clone(&self.keyspace));
            let number = self.number + local * self.args.threads();
            loops.spawn_local(async move {
                let requests = Requests::new(&args, &keyspace, number);
                closed_loop(&client, requests, schedule, &tally).await;
            });
        }
        let drained = async {
            while loops.join_next().await.is_some() {}
            for client in &clients {
                client.lock().await.close().await;
            }
        };
        let deadline = schedule.until + ANSWER_TIMEOUT;
        let timely = tokio::time::timeout_at(deadline.into(), drained).await;
        if timely.is_err() {
            for _ in 0..loops.len() {
                tally
                    .borrow_mut()
                    .record_failure("no answer when the load had ended", true);
            }
        }
        tally.replace(Tally::new())
    }
}

/// One client: a request, its answer, the next request.
async fn closed_loop<C: Connection>(
    client: &Mutex<C>,
    mut requests: Requests<'_>,
    schedule: Schedule,
    tally: &RefCell<Tally>,
) {
    let mut sent = Instant::now();
    while sent < schedule.until {
        let request = requests.draw();
        let result = client.lock().await.execute(&request).await;
        let answered = Instant::now();
        let measured = answered >= schedule.from && answered < schedule.until;
        let waited = answered - sent;
        sent = answered;
        match result {
            Ok(()) if measured => {
                tally
                    .borrow_mut()
                    .record_success(request.operations(), waited);
            }
            Ok(()) => {}
            Err(failure) => {
                tally
                    .borrow_mut()
                    .record_failure(failure.message(), measured);
                match failure {
                    Failure::Refused(_) => {}
                    Failure::Broken(_) => {
                        tokio::time::sleep(PAUSE_AFTER_BREAK).await;
                        sent = Instant::now();
                    }
                }
            }
        }
    }
}

fn prepare_error(endpoint: &str, failure: &Failure) -> Error {
    Error::Prepare {
        endpoint: endpoint.to_owned(),
        cause: failure.message().to_owned(),
    }
}

/// Bounds a request before the load.
async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, work).await;
    answer.unwrap_or_else(|_| Err(Failure::Broken("no answer in 10 s".to_owned())))
}
