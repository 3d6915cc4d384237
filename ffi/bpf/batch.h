// SPDX-License-Identifier: Apache-2.0
//
// How frames are known at an interface's egress that the data path has handed over in a batch.

#ifndef BATCH_H
#define BATCH_H

// The word of an skb's control block that programs share, and what it says. Only an skb without a socket is one of these.
#define HANDED_AT 4
#define HANDED 0x4d724268

#endif
