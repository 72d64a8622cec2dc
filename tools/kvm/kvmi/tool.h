/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi: what its commands share.
 */
#ifndef KVMI_TOOL_H
#define KVMI_TOOL_H

#include "json.h"
#include "lib/compiler.h"
#include "lib/kvmi.h"

/* Exit codes, as --help tells them. */
enum {
	STATUS_OK = 0,
	STATUS_NOTHING = 1,
	STATUS_USAGE = 2,
	STATUS_NO_VM = 3,
	STATUS_PERMISSION = 4,
	STATUS_OFF = 5,
	STATUS_NO_SUPPORT = 6,
	STATUS_IN_USE = 7,
	STATUS_PROTECTED = 8,
	STATUS_TIMEOUT = 9,
	STATUS_FAILED = 10,
};

/**
 * struct tool - a run of the command
 * @json: output is for machines
 * @out: where that goes
 * @conn: the connection, once there is one
 * @vm: the VM; pid 0: not known, the socket was inherited
 * @which: what the user called it
 * @socket: inherited socket, -1: none
 * @timeout: for a command to KVM, ms
 * @vcpu: only this one, -1: all
 * @live: do not pause the VM
 * @pause: pause the VM
 * @count: matches, events; -1: not given
 * @daemon: go to the background
 * @seconds: end after this time, 0: not given
 * @deadline: for answers to events, in seconds, 0: not given
 * @hex: the string is in hexadecimal
 * @raw: memory as it is
 * @from: where to begin in guest memory
 * @to: where to end
 * @block: what is forbidden does not happen
 * @log: it does
 * @fault: what the guest gets instead: vector of an exception, 0: not given
 * @symbols: file with the symbols of the guest's kernel, NULL: none
 * @dry_run: change nothing
 * @key: file with the key that the VMM wants, NULL: none
 * @hmac_only: the key is to be proved by HMAC only
 */
struct tool {
	bool json;
	struct json out;
	struct kvmi_conn *conn;
	struct kvmi_vm vm;
	const char *which;
	int socket;
	int timeout;
	int vcpu;
	bool live;
	bool pause;
	long long count;
	bool daemon;
	double seconds;
	double deadline;
	bool hex;
	bool raw;
	__u64 from;
	__u64 to;
	bool block;
	bool log;
	__u8 fault;
	const char *symbols;
	bool dry_run;
	const char *key;
	bool hmac_only;
};

/**
 * struct command - kvmi NAME
 * @name: its name
 * @operands: after the VM, for the usage line
 * @min: least number of them
 * @max: largest number of them
 * @vm: the first operand is a VM
 * @options: letters of those that it takes besides the common ones
 * @brief: what it does, a line
 * @help: the rest that is to be known
 * @run: does it; @argv are the operands after the VM, ends with NULL
 */
struct command {
	const char *name;
	const char *operands;
	int min;
	int max;
	bool vm;
	const char *options;
	const char *brief;
	const char *help;
	int (*run)(struct tool *tool, int argc, char **argv);
};

extern const struct command command_list, command_info, command_regs, command_dump,
	command_find, command_pause, command_resume, command_trace, command_step,
	command_translate, command_msr_guard, command_protect, command_serve;

/* failure.c */
int fail(struct tool *tool, int status, const char *fmt, ...) __printf(3, 4);
int fail_conn(struct tool *tool);
void note(const char *fmt, ...) __printf(1, 2);

/* connect.c */
int find_vm(struct tool *tool);
int connect_vm(struct tool *tool);
int pause_vm(struct tool *tool, int vcpu);
int check_vcpu(struct tool *tool, unsigned int *vcpus);
int check_event(struct tool *tool, __u16 event);
int catch_signals(struct tool *tool);
double now(void);

/* parse.c */
bool parse_number(const char *s, __u64 *value);
bool parse_hex_bytes(const char *s, __u8 *bytes, size_t *len);

/* event.c */
struct event_note {
	const char *key;
	const char *value;
};

void print_event(struct tool *tool, const struct kvmi_event *event, double time,
		 const struct event_note *notes, const char *verdict);

/* disassemble.c */
size_t disassemble(__u8 mode, __u64 rip, const __u8 *bytes, size_t len, char *text, size_t size);

/* holder.c */
int holder_record(const struct tool *tool);
void holder_write(int record, pid_t pid);
void holder_forget(const struct tool *tool, int record);
pid_t holder_find(const struct tool *tool, int *record);

/* registers.c */
struct register_name {
	const char *name;
	size_t offset;
};

extern const struct register_name register_names[18];
__u64 register_value(const struct kvm_regs *regs, const struct register_name *name);
unsigned int privilege_level(const struct kvmi_vcpu_event_arch *state);

#define MSR_NAME	32

const char *msr_text(__u32 msr, char buf[MSR_NAME]);
int parse_msr(struct tool *tool, const char *s, __u32 *msr);

#endif
