//! Compiles the definitions, with no protoc: messages and services for gRPC, and their JSON as etcd's
//! gateway writes it.

use std::error::Error;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let definitions = [
        "mvcc.proto",
        "rpc.proto",
        "v3election.proto",
        "v3lock.proto",
    ];
    let files = protox::compile(definitions, ["proto"])?;
    pbjson_build::Builder::new()
        .register_descriptors(&files.encode_to_vec())?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .build(&[".etcdserverpb", ".mvccpb", ".v3electionpb", ".v3lockpb"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SizedCodec")
        .compile_fds(files)?;
    Ok(())
}
