//! Finds the system's DPDK, generates bindings for what Millrace uses of it, and compiles the shim.

use std::env;
use std::error::Error;
use std::path::PathBuf;

/// The oldest DPDK that has everything the shim and the drivers ask for.
const OLDEST: &str = "22.11";

/// Libraries that are called directly. EAL loads drivers itself, at run time.
const LIBRARIES: [&str; 7] =
    ["rte_eal", "rte_ring", "rte_mempool", "rte_mbuf", "rte_net", "rte_ethdev", "rte_vhost"];

const FUNCTIONS: [&str; 11] = [
    "millrace_.*",
    "rte_eal_(init|cleanup)",
    "rte_thread_(register|unregister)",
    "rte_log_set_level_pattern",
    "rte_log_cur_msg_log(level|type)",
    "rte_strerror",
    "rte_pktmbuf_(pool_create_by_ops|pool_create_extbuf|free_bulk|clone)",
    "rte_mempool_(free|in_use_count|lookup)",
    "rte_dev_(probe|remove)",
    "rte_eth_(dev_(configure|start|stop|close|info_get|set_mtu|get_port_by_name|is_valid_port|socket_id|get_mtu)\
     |rx_queue_setup|tx_queue_setup|macaddr_get|link_get_nowait|(promiscuous|allmulticast)_enable|stats_get\
     |dev_adjust_nb_rx_tx_desc)",
    "rte_vhost_(driver_(register|unregister|start|callback_register|disable_features|enable_features\
     |get_features|get_protocol_features|set_protocol_features)|enqueue_burst|dequeue_burst|get_vhost_vring\
     |get_vring_num|get_ifname|get_negotiated_features|enable_guest_notification|get_mtu|get_numa_node)",
];

const TYPES: [&str; 2] = ["rte_vhost_device_ops", "rte_pktmbuf_extmem"];

const CONSTANTS: [&str; 5] = [
    "MILLRACE_.*",
    "RTE_VHOST_USER_.*",
    "RTE_PKTMBUF_HEADROOM|RTE_MAX_ETHPORTS|RTE_MAX_LCORE|RTE_VER_.*",
    "RTE_ETH_LINK_(UP|DOWN)|RTE_ETH_NAME_MAX_LEN",
    "VIRTIO_NET_F_.*|VIRTIO_F_.*|VIRTIO_RING_F_.*",
];

/// DPDK types that are packed and aligned at once, which Rust cannot express; nobody here touches them.
const OPAQUE: &str = "rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_combined_msg_hdr|rte_gtp_psc_.*|rte_ecpri_.*";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/shim.h");
    println!("cargo::rerun-if-changed=src/shim.c");
    let dpdk = pkg_config::Config::new().atleast_version(OLDEST).cargo_metadata(false).probe("libdpdk")?;
    let output = PathBuf::from(env::var("OUT_DIR")?);

    let mut builder = bindgen::Builder::default()
        .header("src/shim.h")
        .layout_tests(true)
        .clang_macro_fallback()
        .clang_macro_fallback_build_dir(&output)
        .generate_comments(false)
        .derive_default(true)
        .prepend_enum_name(false)
        .opaque_type(OPAQUE)
        .allowlist_type(TYPES.join("|"));
    for pattern in FUNCTIONS {
        builder = builder.allowlist_function(pattern);
    }
    for pattern in CONSTANTS {
        builder = builder.allowlist_var(pattern);
    }
    let includes: Vec<String> =
        dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();
    // pkg-config's crate drops `-include` and `-march`; without them the headers mean something else.
    let flags = ["-include", "rte_config.h", "-march=corei7", "-D_GNU_SOURCE", "-DALLOW_EXPERIMENTAL_API"];
    builder.clang_args(&includes).clang_args(flags).generate()?.write_to_file(output.join("bindings.rs"))?;

    let mut shim = cc::Build::new();
    shim.file("src/shim.c").includes(&dpdk.include_paths).opt_level(3);
    for flag in flags {
        shim.flag(flag);
    }
    // DPDK's headers are not clean under the stricter warnings.
    shim.flag("-Wno-unused-parameter").flag("-Wno-pedantic").compile("millrace_dpdk_shim");

    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}
