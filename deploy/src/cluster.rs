//! `caucus cluster`.

use hyper::Method;

use crate::cli::ClusterArgs;
use crate::endpoints::Ask;
use crate::fatal::Fatal;

/// Prints what a node knows of the cluster.
pub(crate) async fn run(args: ClusterArgs) -> Result<(), Fatal> {
    let ask = Ask::new(Method::GET, "/v1/cluster".to_owned());
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}
