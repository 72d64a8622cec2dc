/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of kvmi that need no kernel: TAP, and a fake of KVM's end of the socket.
 */
#ifndef KVMI_TEST_H
#define KVMI_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/compiler.h"
#include "lib/kvmi.h"

/* tap.c */
bool ok(bool passed, const char *fmt, ...) __printf(2, 3);
bool is_string(const char *got, const char *wanted, const char *name);
bool is_number(long long got, long long wanted, const char *name);
int tap_end(void);
bool is_json(const char *text, const char *end);

/* What the fake VM is like. */
#define FAKE_MEMORY	0x304000ULL	/* its end; */
#define FAKE_HOLE	0xa0000ULL	/* nothing from here */
#define FAKE_HOLE_END	0x100000ULL	/* to here */
#define FAKE_SPLIT	0x200ff8ULL	/* "split string" over two pages */
#define FAKE_TWICE	0x203100ULL	/* "twice twice" */
#define FAKE_EDGE	0x9fffaULL	/* "edge o" before the hole, "f hole" after it */
#define FAKE_LAST	0x303ff8ULL	/* "the last" at the end of memory */
#define FAKE_CODE	0xffffffff81000000ULL	/* virtual: two pages; */
#define FAKE_CODE_GPA	0x206000ULL	/* where the first is, */
#define FAKE_CODE_GPA2	0x208000ULL	/* and the second */

/**
 * struct fake_guest - what vCPU 0 does when exactly this is switched on at all
 *		       vCPUs; more than that is wrong
 * @events: KVMI_VCPU_EVENT_*, as bits
 * @crs: control registers that are selected, as bits
 * @msrs: MSRs that are selected
 * @nr_msrs: how many
 * @does: what happens, one after the other
 * @answers: the reply data to each, if the event has any
 * @actions: the action that each is to be answered with
 * @injects: the exception that is to be injected before that; nr 0: none
 * @busy: those that none can be injected for, as bits
 * @nr: how many
 */
struct fake_guest {
	__u32 events;
	__u8 crs;
	__u32 msrs[8];
	unsigned int nr_msrs;
	struct kvmi_event does[8];
	__u64 answers[8];
	__u8 actions[8];
	struct kvmi_vcpu_inject_exception injects[8];
	__u32 busy;
	unsigned int nr;
};

/* Offsets in the image of the fake kernel, and what is there */
#define KERNEL_TEXT_END		0x2ba000	/* from 0; then pages that were freed */
#define KERNEL_ENTRY		0x201080	/* where LSTAR is, in the text */
#define KERNEL_RODATA_AT	0x400000
#define KERNEL_RODATA_END	0x533000	/* then pages that were freed, in a large page */
#define KERNEL_DATA_AT		0x600000
#define KERNEL_DATA_END		0x700000	/* then other data, and pages that were freed */
#define KERNEL_IDT		0x900000	/* a read-only page, data around it */
#define KERNEL_SIZE		0xa00000

#define FAKE_KERNEL		0xffffffff81000000ULL	/* its address without KASLR */
#define FAKE_KERNEL_GPA		0x4000000ULL
#define FAKE_KERNEL_LAST	(FAKE_KERNEL_GPA + KERNEL_SIZE - 1)
#define FAKE_DIRECT		0xffff888040000000ULL	/* the direct map with 4 levels, */
#define FAKE_DIRECT_5		0xff11000040000000ULL	/* and with 5 */

/**
 * struct fake_kernel - a guest's kernel, with its page tables
 * @levels: of the tables: 4 or 5
 * @small: there are no large pages
 * @slide: KASLR
 * @user_half: CR3 has the tables that user space runs with
 * @odd_cr3: CR3 happens to look as if
 * @early: vCPUs that have not set LSTAR, as bits
 * @mode: of paging: 0: 64-bit, 1: it is not
 * @no_banner: it does not say that it is Linux
 * @writable: it has not protected its text
 * @aliased: nor its direct map
 * @no_direct: there is none
 * @elsewhere: LSTAR is not where Linux has its kernel
 * @unmapped: LSTAR is where nothing is mapped
 * @symbols: what is to be protected is what the symbols say
 * @maze: all addresses of the lower half lead through the same few tables
 */
struct fake_kernel {
	int levels;
	bool small;
	__u64 slide;
	bool user_half;
	bool odd_cr3;
	__u32 early;
	bool mode;
	bool no_banner;
	bool writable;
	bool aliased;
	bool no_direct;
	bool elsewhere;
	bool unmapped;
	bool symbols;
	bool maze;
};

/**
 * struct fake - how the fake behaves
 * @vcpus: how many
 * @stopped: those that do not run, as bits: no answers
 * @late: they pause when vCPU 0 goes on, and are to be answered
 * @not_started: those that were not started, as bits
 * @events: send so many events when they are enabled, hypercalls and breakpoints
 *	    in turn
 * @stray: send an unknown event before each reply
 * @slow: write byte by byte
 * @close_after: close the connection after so many commands, 0: never
 * @denied: this command is not allowed, 0: all are
 * @unhook: end the events with UNHOOK
 * @guest: what happens, NULL: see @events
 * @unknown: events that this kernel does not have, as bits
 * @no_singlestep: nor this
 * @rip: where vCPU 0 is, 0: at FAKE_CODE
 * @mode: size of operands there, 0: 8
 * @steps: after so many steps it does not go on, 0: it always does
 * @failed_step: this one fails
 * @kernel: what the guest runs; without one there is no SET_PAGE_ACCESS
 * @forgiving: what is left switched on at the end is not wrong
 * @all_answered: no vCPU is to wait at the end
 * @allow_after: so many times UNHOOK is not allowed
 * @newer: than the protocol version that the tool knows
 */
struct fake {
	unsigned int vcpus;
	unsigned int stopped;
	bool late;
	unsigned int not_started;
	unsigned int events;
	bool stray;
	bool slow;
	unsigned int close_after;
	__u16 denied;
	bool unhook;
	const struct fake_guest *guest;
	__u32 unknown;
	bool no_singlestep;
	__u64 rip;
	__u8 mode;
	unsigned int steps;
	unsigned int failed_step;
	const struct fake_kernel *kernel;
	bool forgiving;
	bool all_answered;
	unsigned int allow_after;
	bool newer;
};

/* fake.c */
__u8 fake_byte(__u64 gpa);
bool fake_present(__u64 gpa);
pid_t fake_start(const struct fake *fake, int *sock);
void fake_be(const struct fake *fake, int sock);
pid_t peer_start(void (*peer)(int sock), int *sock);
bool peer_end(pid_t pid);
void must_read(int sock, void *data, size_t size);
void must_write(int sock, const void *data, size_t size);
void send_reply(int sock, const struct kvmi_msg_hdr *cmd, int err, const void *data, size_t size);
void send_event(int sock, __u32 seq, __u16 event, __u16 vcpu, const void *payload, size_t size);

/**
 * struct qemu - a VMM with an introspection object
 * @number: each byte of its UUID
 * @name: of the VM
 * @size: of its hello
 * @split: sends so many bytes of it at first, 0: all at once
 * @auth: what it offers, if @size has it
 * @reply: what it wants to hear
 * @reply_size: bytes of that
 */
struct qemu {
	__u8 number;
	const char *name;
	__u32 size;
	__u32 split;
	__u32 auth;
	const void *reply;
	size_t reply_size;
};

/* qemu.c */
size_t qemu_hello(const struct qemu *qemu, __u8 *hello);
int qemu_connect(const char *path);
bool qemu_greet(const struct qemu *qemu, int sock);
pid_t qemu_start(const struct qemu *qemu, const char *path, const struct fake *fake);

/* kernel.c */
void kernel_build(const struct fake_kernel *how);
bool kernel_present(__u64 gpa);
__u8 kernel_byte(__u64 gpa);
void kernel_registers(const struct fake_kernel *how, unsigned int vcpu, struct kvm_sregs *sregs,
		      __u64 *lstar);
__u8 kernel_access(const struct fake_kernel *how, __u64 gpa);

/* tool.c */
#define OUTPUT	0x100000

struct run {
	pid_t pid;
	pid_t fake;
	int out;
	int err;
};

extern char out[OUTPUT], err[OUTPUT];
struct run kvmi_start(const struct fake *fake, const char *args);
int kvmi_finish(const struct run *run);
int kvmi_run(const struct fake *fake, const char *args);
bool has(const char *text, const char *part, const char *name);
int count_lines(const char *text, const char *part);
bool all_json(const char *text);

/* The tests */
void test_protect(void);
void test_units(void);
void test_vms(void);
void test_library(void);
void test_tool(const char *path);
void test_serve(void);

#endif
