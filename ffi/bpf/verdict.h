// SPDX-License-Identifier: Apache-2.0
//
// What a program of traffic control answers.

#ifndef VERDICT_H
#define VERDICT_H

// "Go on": the next program, or none (TCX_NEXT, which is TC_ACT_UNSPEC); and the end (TCX_DROP, which is TC_ACT_SHOT).
#define NEXT (-1)
#define DROP 2

#endif
