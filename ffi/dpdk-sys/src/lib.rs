//! Raw bindings to the system's DPDK, made by bindgen when this crate is built.
//!
//! Names are DPDK's; what DPDK has only as inline functions or macros is in `shim.c` and starts with
//! `millrace_` or `MILLRACE_`. Nothing here is safe to use by itself: `millrace-ffi` has the owners.
//! Documentation: <https://doc.dpdk.org/api-22.11/>.

// The names and the shape of generated code are C's.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, missing_docs, unsafe_op_in_unsafe_fn)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![allow(unnecessary_transmutes, unpredictable_function_pointer_comparisons)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    #[test]
    fn an_mbuf_is_two_cache_lines_with_its_hot_fields_in_the_first() {
        assert_eq!((size_of::<rte_mbuf>(), align_of::<rte_mbuf>()), (128, 64));
        assert_eq!(offset_of!(rte_mbuf, buf_addr), 0);
        assert!(offset_of!(rte_mbuf, ol_flags) < 64);
        assert!(offset_of!(rte_mbuf, buf_len) < 64);
    }

    #[test]
    fn the_shim_is_linked() {
        // SAFETY: takes four numbers and gives one; touches no memory.
        let lengths = unsafe { millrace_mbuf_lengths(14, 20, 20, 1448) };
        assert_eq!(lengths & 0x7f, 14);
        assert_eq!(lengths >> 7 & 0x1ff, 20);
        assert_eq!(lengths >> 16 & 0xff, 20);
        assert_eq!(lengths >> 24 & 0xffff, 1448);
    }
}
