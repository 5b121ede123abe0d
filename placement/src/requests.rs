//! What the requests mean, one function each.

use std::time::Duration;

use bytes::Bytes;
use caucus_api::placement::error::Code;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Said;
use caucus_api::placement::{
    Activate, Activated, Error, FollowMap, Granted as GrantedBlock, LastGrantedIs, Map, Register,
    Registered, Report, Request, Response,
};
use caucus_ring::{GroupId, GroupState, NodeId, Roles};
use tokio::time::timeout;

use crate::catalog::{Answer, Command, Refusal, RegisterNode, StorageUuid};
use crate::oracle::{BLOCK_REVISIONS_MAX, Denied, Granted, Wanted};
use crate::propose::{Unproposed, propose};
use crate::service::Placement;

/// The longest wait for a map.
const MAP_WAIT_MAX: Duration = Duration::from_secs(60);

/// A request by who answers it.
pub(crate) enum Question {
    /// The oracle's queue, in order of arrival.
    Oracle(Wanted),
    /// A task of its own.
    Other(Asked),
}

/// See [`Question::Other`].
pub(crate) enum Asked {
    FollowMap(FollowMap),
    Register(RegisterNode),
    Report(Report),
    Activate(GroupId),
}

/// Says who answers a request; or what is wrong with it.
pub(crate) fn sort(request: Request) -> Result<Question, Response> {
    let asked = match request.body {
        Some(Ask::Ask(ask)) => {
            if !(1..=BLOCK_REVISIONS_MAX).contains(&ask.count) {
                return Err(invalid(format!(
                    "a block has 1 to {BLOCK_REVISIONS_MAX} revisions, not {}",
                    ask.count
                )));
            }
            return Ok(Question::Oracle(Wanted::Block(ask.count)));
        }
        Some(Ask::LastGranted(_)) => return Ok(Question::Oracle(Wanted::Last)),
        Some(Ask::FollowMap(follow)) => Asked::FollowMap(follow),
        Some(Ask::Register(register)) => Asked::Register(registration(register)?),
        Some(Ask::Report(report)) => Asked::Report(report),
        Some(Ask::Activate(Activate { group })) => Asked::Activate(GroupId(group)),
        None => return Err(invalid("it asks nothing that is known here".to_owned())),
    };
    Ok(Question::Other(asked))
}

fn registration(register: Register) -> Result<RegisterNode, Response> {
    let storage = register.storage_id[..].try_into();
    let storage = storage.map_err(|_| invalid("a storage id has 16 bytes".to_owned()))?;
    Ok(RegisterNode {
        id: NodeId(register.node),
        storage: StorageUuid(storage),
        peer_address: register.peer_addr,
        client_address: register.client_addr,
        zone: register.zone,
        roles: Roles {
            router: register.router,
            shard: register.shard,
            placement: register.placement,
        },
    })
}

impl Placement {
    pub(crate) fn ask_oracle(&self, wanted: Wanted, reply: impl FnOnce(Response) + Send + 'static) {
        let this = self.me();
        let answer = move |result: Result<Granted, Denied>| {
            reply(match result {
                Ok(Granted::Block(block)) => said(Said::Granted(GrantedBlock {
                    first: block.first,
                    count: block.count,
                })),
                Ok(Granted::Last { revision, term }) => {
                    let this = this.as_ref();
                    let leader = this.and_then(|this| this.group.leadership().leader);
                    said(Said::LastGranted(LastGrantedIs {
                        revision,
                        leader: leader.unwrap_or(0),
                        term,
                        applied_index: this.map_or(0, |this| this.view.applied().at.index),
                    }))
                }
                Err(Denied::NotLeader { leader }) => match &this {
                    Some(this) => this.not_leader(leader),
                    None => unavailable("it is shut down"),
                },
                Err(Denied::Unavailable(reason)) => unavailable(&reason),
            });
        };
        self.oracle.ask(wanted, Box::new(answer));
    }

    pub(crate) async fn answer(&self, asked: Asked) -> Response {
        match asked {
            Asked::FollowMap(follow) => self.follow_map(follow).await,
            Asked::Register(register) => self.register(register).await,
            Asked::Report(report) => self.report(&report),
            Asked::Activate(group) => self.activate(group).await,
        }
    }

    /// Any replica answers; a map that lags is newer than none.
    async fn follow_map(&self, follow: FollowMap) -> Response {
        let wait = Duration::from_millis(follow.wait_ms.into()).min(MAP_WAIT_MAX);
        let mut maps = self.view.watch_map();
        let newer = maps.wait_for(|map| {
            map.as_ref()
                .is_some_and(|map| map.epoch().0 > follow.known_epoch)
        });
        let map = match timeout(wait, newer).await {
            Ok(Ok(map)) => map.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        said(Said::Map(match map {
            Some(map) => Map {
                epoch: map.epoch().0,
                map: self.view.encoded(&map),
            },
            None => Map {
                epoch: self.view.map().map_or(0, |map| map.epoch().0),
                map: Bytes::new(),
            },
        }))
    }

    async fn register(&self, register: RegisterNode) -> Response {
        let leadership = self.group.leadership();
        let answer = match self.propose(&Command::RegisterNode(register)).await {
            Ok(answer) => answer,
            Err(response) => return response,
        };
        let catalog = self.view.catalog();
        match (answer, catalog.settings()) {
            (Answer::Registered { node }, Some(settings)) => {
                self.reports.registered(leadership.term, node);
                said(Said::Registered(Registered {
                    node: node.0,
                    cluster_id: Bytes::copy_from_slice(&settings.cluster_id.0),
                }))
            }
            (
                Answer::Initialized { .. }
                | Answer::Registered { .. }
                | Answer::GroupsCreated
                | Answer::GroupActivated
                | Answer::RulesSet { .. }
                | Answer::Ceiling { .. },
                _,
            ) => unavailable("the catalog gave the answer of another command"),
        }
    }

    /// A hint of leadership is enough: nothing is decided on one report.
    fn report(&self, report: &Report) -> Response {
        let leadership = self.group.leadership();
        if !leadership.here {
            return self.not_leader(leadership.leader);
        }
        said(Said::Reported(self.reports.take(leadership.term, report)))
    }

    async fn activate(&self, group: GroupId) -> Response {
        let known = self.view.catalog();
        // Active for ever, so also a replica that lags may say so.
        if known
            .group(group)
            .is_some_and(|group| group.state == GroupState::Active)
        {
            return said(Said::Activated(Activated {}));
        }
        match self.propose(&Command::ActivateGroup(group)).await {
            Ok(_) => said(Said::Activated(Activated {})),
            Err(response) => response,
        }
    }

    async fn propose(&self, command: &Command) -> Result<Answer, Response> {
        let leadership = self.group.leadership();
        if !leadership.here {
            return Err(self.not_leader(leadership.leader));
        }
        let proposed = propose(&self.group, leadership.term, command).await;
        proposed.map_err(|error| match error {
            Unproposed::NotLeader { leader } => self.not_leader(leader),
            Unproposed::Unknown(reason) => unavailable(&reason),
            // It soon will be.
            Unproposed::Refused(Refusal::NotInitialized) => {
                unavailable(&Refusal::NotInitialized.to_string())
            }
            Unproposed::Refused(refusal) => failed(Code::Refused, refusal.to_string()),
        })
    }

    fn not_leader(&self, leader: Option<u32>) -> Response {
        let addr = leader.and_then(|node| {
            let catalog = self.view.catalog();
            let known = catalog.node(NodeId(node));
            let known = known.map(|record| record.node.peer_address.clone());
            known.or_else(|| self.seeds.get(&node).cloned())
        });
        said(Said::Error(Error {
            code: Code::NotLeader as i32,
            message: "this replica does not lead the placement group".to_owned(),
            leader_addr: addr.unwrap_or_default(),
        }))
    }
}

pub(crate) fn unavailable(reason: &str) -> Response {
    failed(Code::Unavailable, format!("placement: {reason}"))
}

pub(crate) fn invalid(reason: String) -> Response {
    failed(Code::Invalid, format!("the request is not valid: {reason}"))
}

fn failed(code: Code, message: String) -> Response {
    said(Said::Error(Error {
        code: code as i32,
        message,
        leader_addr: String::new(),
    }))
}

fn said(body: Said) -> Response {
    Response { body: Some(body) }
}
