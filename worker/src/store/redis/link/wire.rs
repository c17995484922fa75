//! One command's handle on the connection to Redis: to one server, or to a cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};

use super::slot_of;
use crate::store::redis::millis;

/// One command's handle on the link.
#[derive(Clone)]
pub(in crate::store::redis) enum Wire {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Wire {
    /// Waits until one replica has all that was written by this connection before, for so long at most. Tells how many
    /// have it, where the keys with that hash tag are.
    pub(in crate::store::redis) async fn replicas(&mut self, tag: &str, longest: Duration) -> RedisResult<u64> {
        let mut command = redis::cmd("WAIT");
        // Zero would be without an end.
        command.arg(1).arg(millis(longest).max(1));
        let replicas = match self {
            Self::Single(manager) => manager.req_packed_command(&command).await?,
            Self::Cluster(connection) => {
                let route = Route::new(slot_of(tag), SlotAddr::Master);
                let node = SingleNodeRoutingInfo::SpecificNode(route);
                connection.route_command(command, RoutingInfo::SingleNode(node)).await?
            }
        };
        Ok(redis::from_redis_value(replicas)?)
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(manager) => manager.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(manager) => manager.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(manager) => manager.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
