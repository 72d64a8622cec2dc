/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libkvmi: what a tool and 'kvmi serve' say to each other.
 *
 * 'kvmi serve' has the connections of the VMs whose VMMs came to it, and listens
 * on a socket of its own, KVMI_SERVE_PREFIX and its process id below
 * kvmi_run_dir(). Who connects there sends one request. After a SERVED_USE that
 * was granted the socket is the connection to KVM, until its end.
 */
#ifndef LIBKVMI_SERVED_H
#define LIBKVMI_SERVED_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define KVMI_SERVE_PREFIX	"serve-"
#define SERVED_MAGIC		0x31764b73	/* changes with what follows */

enum served_op {
	SERVED_LIST,	/* struct served_reply and as many struct served_vm as it says */
	SERVED_USE,	/* struct served_reply */
};

struct served_request {
	__u32 magic;
	__u32 op;
	__u32 id;
	__u32 padding;
};

/**
 * struct served_reply - the answer to a request
 * @magic: SERVED_MAGIC
 * @err: 0, or ENOENT: the VM is gone, EBUSY: it is in use
 * @value: how many VMs follow; or the last number that a command had; or, in
 *	   use, the process that does
 * @padding: 0
 */
struct served_reply {
	__u32 magic;
	__u32 err;
	__u32 value;
	__u32 padding;
};

/**
 * struct served_vm - a VM
 * @id: for SERVED_USE
 * @pid: its VMM, 0: not known
 * @user: the process that uses the connection, 0: none
 * @padding: 0
 * @start_time: when the guest was started, in whatever unit its VMM counts
 * @uuid: as the VMM says
 * @name: the same, ends with NUL
 */
struct served_vm {
	__u32 id;
	__s32 pid;
	__s32 user;
	__u32 padding;
	__s64 start_time;
	__u8 uuid[16];
	char name[64];
};

/* rundir.c */
bool kvmi_run_dir(char *path, size_t size, bool create);

#endif
