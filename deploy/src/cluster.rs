//! `caucus cluster`.

use hyper::Method;
use serde_json::{Value, json};

use crate::cli::ClusterArgs;
use crate::endpoints::Ask;
use crate::fatal::Fatal;
use crate::output::Form;

/// Prints what a node knows of the cluster.
pub(crate) async fn run(args: ClusterArgs) -> Result<(), Fatal> {
    let ask = Ask::new(Method::GET, "/v1/cluster".to_owned());
    let mut answer = args.cluster.connect()?.send_for_json(&ask).await?;
    match args.output {
        Form::Table => shorten(&mut answer),
        Form::Json | Form::Yaml => {}
    }
    args.output.print(&answer)
}

/// For eyes: of replicas only where they are, of roles only those that a node has. What isn't as expected
/// stays as it is.
fn shorten(cluster: &mut Value) {
    let placement = cluster.pointer("/placement/replicas").map(places);
    if let Some(placement) = placement {
        cluster["placement"] = placement;
    }
    for group in list(cluster, "groups") {
        if let Some(replicas) = group.get("replicas").map(places) {
            group["replicas"] = replicas;
        }
        if let Some(share) = group.get("arc_share").and_then(Value::as_f64) {
            group["arc_share"] = json!(format!("{:.2}%", share * 100.0));
        }
    }
    for node in list(cluster, "nodes") {
        if let Some(roles) = node.get("roles").map(had) {
            node["roles"] = roles;
        }
    }
}

fn list<'a>(cluster: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = cluster.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}

fn places(replicas: &Value) -> Value {
    let Some(replicas) = replicas.as_array() else {
        return replicas.clone();
    };
    replicas
        .iter()
        .map(|replica| replica["node"].clone())
        .collect()
}

fn had(roles: &Value) -> Value {
    let Some(roles) = roles.as_object() else {
        return roles.clone();
    };
    let had = roles.iter().filter(|(_, has)| **has == json!(true));
    had.map(|(role, _)| json!(role)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_short_cells() {
        let replicas = json!([{"node": 1, "replica": 4}, {"node": 3, "replica": 5}]);
        let mut cluster = json!({
            "placement": {"replicas": replicas},
            "groups": [{"group": 1, "arc_share": 0.16666, "replicas": replicas}],
            "nodes": [{"node": 1, "roles": {"router": true, "shard": false}}],
        });
        shorten(&mut cluster);
        let expected = json!({
            "placement": [1, 3],
            "groups": [{"group": 1, "arc_share": "16.67%", "replicas": [1, 3]}],
            "nodes": [{"node": 1, "roles": ["router"]}],
        });
        assert_eq!(cluster, expected);
        let mut other = json!({"error": 1});
        shorten(&mut other);
        assert_eq!(other, json!({"error": 1}));
    }
}
