# shellcheck shell=bash
# Hugepages of 2 MiB: reserve, remember how many there were before, give back.

HUGEPAGES_FILE=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
HUGEPAGES_BEFORE=/run/millrace-setup.hugepages
HUGETLBFS=/dev/hugepages

hugepages_total() {
    cat $HUGEPAGES_FILE
}

# hugepages_reserve N: at least N in all. The number of before the first call is kept for hugepages_restore.
hugepages_reserve() {
    local wanted=$1 have
    if [[ ! -w $HUGEPAGES_FILE ]]; then
        echo 'setup: this kernel has no hugepages of 2 MiB; Millrace runs without them, but slower' >&2
        return 0
    fi
    have=$(hugepages_total)
    ((have < wanted)) || return 0
    [[ -e $HUGEPAGES_BEFORE ]] || echo "$have" >$HUGEPAGES_BEFORE
    echo "$wanted" >$HUGEPAGES_FILE
    have=$(hugepages_total)
    if ((have < wanted)); then
        # Memory is in too small pieces: let the kernel put it together and ask once more.
        echo 1 >/proc/sys/vm/compact_memory 2>/dev/null || true
        echo "$wanted" >$HUGEPAGES_FILE
        have=$(hugepages_total)
    fi
    if ((have < wanted)); then
        echo "setup: asked for $wanted hugepages of 2 MiB, the kernel gave $have" >&2
        return 1
    fi
}

hugepages_restore() {
    [[ -e $HUGEPAGES_BEFORE ]] || return 0
    cat $HUGEPAGES_BEFORE >$HUGEPAGES_FILE
    rm -f $HUGEPAGES_BEFORE
}

hugetlbfs_mount() {
    ! grep -q ' hugetlbfs .*pagesize=2M' /proc/mounts || return 0
    mkdir -p $HUGETLBFS
    mount -t hugetlbfs -o pagesize=2M hugetlbfs $HUGETLBFS
}
