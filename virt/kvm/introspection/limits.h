/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: limits.
 */
#ifndef __KVMI_LIMITS_H
#define __KVMI_LIMITS_H

#include <linux/kvmi.h>

/* Message and event ids, as KVM_INTROSPECTION_COMMAND and _EVENT take them. */
#define KVMI_NUM_MESSAGES	KVMI_NEXT_VCPU_MESSAGE
#define KVMI_NUM_EVENTS		KVMI_NEXT_VCPU_EVENT

/* A message with its header. */
#define KVMI_MAX_MESSAGE	(sizeof(struct kvmi_msg_hdr) + KVMI_MSG_SIZE)

/* The largest payload of a vCPU event. */
#define KVMI_MAX_PAYLOAD	24

/*
 * What a tool can make KVM keep for a vCPU that does not run: commands
 * (two pages each at most, with their replies) and pauses.
 */
#define KVMI_MAX_JOBS		256
#define KVMI_MAX_PAUSES		256

#endif
