// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi step
 */
#include <errno.h>

#include "tool.h"

/* The longest instruction, bytes */
#define INSN_MAX	15

/**
 * struct step - a vCPU that is stepped
 * @tool: how it is wanted
 * @vcpu: index of the vCPU
 * @max: how many instructions, 0: no limit
 * @done: how many were done
 * @rip: the next one
 * @mode: operand size there, bytes
 * @bytes: what is there, before it is executed
 * @len: how much of it can be read
 * @event: the event that the vCPU waits with
 * @waiting: it does
 */
struct step {
	struct tool *tool;
	unsigned int vcpu;
	long long max;
	long long done;
	__u64 rip;
	__u8 mode;
	__u8 bytes[INSN_MAX];
	int len;
	struct kvmi_event event;
	bool waiting;
};

/* See where the vCPU, which waits, goes on. Returns 0 or what the library says. */
static int look(struct step *step, const struct kvmi_vcpu_event_arch *state)
{
	__u64 gva = state->regs.rip;

	step->rip = gva;
	step->mode = state->mode;
	/* In 64-bit mode segments have no base. */
	if (state->mode != 8)
		gva = (__u32)(gva + state->sregs.cs.base);
	step->len = kvmi_read_virtual(step->tool->conn, step->vcpu, gva, step->bytes,
				      sizeof(step->bytes));

	return step->len < 0 ? step->len : 0;
}

static void print_json(struct json *out, const struct step *step, int len, const char *text,
		       bool failed)
{
	json_object(out, NULL);
	json_number(out, "vcpu", step->vcpu);
	json_hex(out, "rip", step->rip);
	if (len)
		json_bytes(out, "bytes", step->bytes, len);
	else
		json_null(out, "bytes");
	if (*text)
		json_string(out, "instruction", text);
	else
		json_null(out, "instruction");
	json_bool(out, "failed", failed);
	json_end(out);
}

static void print_text(const struct step *step, int len, const char *text, bool failed)
{
	int i, column = 0;

	printf("%016llx ", step->rip);
	if (!len)
		printf(" (not mapped)");
	for (i = 0; i < len; i++)
		column += printf(" %02x", step->bytes[i]);
	if (*text)
		printf("%*s%s", column < 24 ? 26 - column : 2, "", text);
	if (failed)
		printf("  (not completed)");
	putchar('\n');
	fflush(stdout);
}

/* The instruction that was done, or another exit came before */
static void print_step(const struct step *step, bool failed)
{
	char text[256] = "";
	int len = disassemble(step->mode, step->rip, step->bytes, step->len, text, sizeof(text));

	if (!len)
		len = step->len;
	if (step->tool->json)
		print_json(&step->tool->out, step, len, text, failed);
	else
		print_text(step, len, text, failed);
}

/* Returns 0 when it is stepping. */
static int begin(struct step *step)
{
	struct kvmi_conn *conn = step->tool->conn;
	struct kvmi_vcpu_event_arch state;
	int r;

	r = kvmi_get_registers(conn, step->vcpu, &state, NULL, 0);
	if (!r)
		r = look(step, &state);
	if (!r)
		r = kvmi_control_singlestep(conn, step->vcpu, true);
	if (!r)
		r = kvmi_resume(conn);

	return r;
}

static int answer(struct step *step)
{
	step->waiting = false;
	return kvmi_continue_event(step->tool->conn, &step->event);
}

/* The vCPU waits with the last event: it is answered when stepping is off. */
static int loop(struct step *step)
{
	struct kvmi_conn *conn = step->tool->conn;
	int r;

	for (;;) {
		r = kvmi_next_event(conn, &step->event, step->tool->timeout);
		if (r <= 0)
			return r ?: -ETIMEDOUT;
		/* The VMM asks to leave the VM: as after ^C */
		if (step->event.id == KVMI_VM_EVENT_UNHOOK)
			return -EINTR;
		step->waiting = true;
		if (step->event.id == KVMI_VCPU_EVENT_SINGLESTEP) {
			print_step(step, step->event.singlestep.failed);
			step->done++;
			r = look(step, &step->event.arch);
			if (r || step->done == step->max)
				return r;
		}
		r = answer(step);
		if (r)
			return r;
	}
}

/* Whatever has happened, the vCPU runs afterwards as it did before. */
static void end(struct step *step)
{
	struct kvmi_conn *conn = step->tool->conn;

	kvmi_set_interrupt(conn, -1);
	kvmi_set_timeout(conn, 500);
	kvmi_control_singlestep(conn, step->vcpu, false);
	kvmi_resume(conn);
	if (step->waiting)
		answer(step);
	while (kvmi_next_event(conn, &step->event, 0) > 0)
		answer(step);
	kvmi_close(conn);
}

static void summary(const struct step *step)
{
	struct json *out = &step->tool->out;

	if (step->tool->json) {
		json_object(out, NULL);
		json_object(out, "summary");
		json_number(out, "vcpu", step->vcpu);
		json_number(out, "steps", step->done);
		json_hex(out, "next", step->rip);
		json_end(out);
		json_end(out);
		return;
	}
	printf("%lld step%s of vCPU %u, which goes on at %016llx\n", step->done,
	       step->done == 1 ? "" : "s", step->vcpu, step->rip);
	fflush(stdout);
}

/* Why the loop ended, as exit code */
static int explain(struct step *step, int r)
{
	struct tool *tool = step->tool;

	switch (r) {
	case 0:
	case -EINTR:
		return STATUS_OK;
	case -ETIMEDOUT:
		return fail(tool, STATUS_TIMEOUT,
			    "vCPU %u has not done the instruction at 0x%llx in %d ms: it is halted, or its VMM has stopped it",
			    step->vcpu, step->rip, tool->timeout);
	default:
		return fail_conn(tool);
	}
}

/* Returns 0 or the exit code. */
static int pause_vcpu(struct step *step)
{
	struct tool *tool = step->tool;
	int r = kvmi_pause(tool->conn, step->vcpu);

	if (!r)
		r = kvmi_wait_paused(tool->conn, tool->timeout);
	if (r < 0)
		return fail_conn(tool);
	if (r)
		return fail(tool, STATUS_TIMEOUT, "vCPU %u does not run: its VMM has stopped it",
			    step->vcpu);
	return 0;
}

static int connect_stepper(struct step *step)
{
	struct kvmi_get_version_reply version;
	struct tool *tool = step->tool;
	unsigned int vcpus;
	int r = connect_vm(tool);

	if (!r)
		r = check_vcpu(tool, &vcpus);
	if (r)
		return r;
	if (kvmi_get_version(tool->conn, &version))
		return fail_conn(tool);
	if (!version.features.singlestep)
		return fail(tool, STATUS_NO_SUPPORT, "this kernel cannot single-step");

	return catch_signals(tool);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct step step = {
		.tool = tool,
		.vcpu = tool->vcpu < 0 ? 0 : tool->vcpu,
		.max = tool->count < 0 ? 1 : tool->count,
	};
	int status = STATUS_OK, r;

	(void)argc;
	(void)argv;

	r = connect_stepper(&step);
	if (!r)
		r = pause_vcpu(&step);
	if (r)
		return r;

	r = begin(&step);
	if (r && r != -EINTR) {
		status = fail_conn(tool);
	} else if (!r) {
		r = loop(&step);
		summary(&step);
		status = explain(&step, r);
	}
	end(&step);

	return status;
}

const struct command command_step = {
	.name = "step",
	.operands = "",
	.vm = true,
	.options = "cn",
	.brief = "let a vCPU execute instructions one by one",
	.help =
	"Steps the first vCPU, or --vcpu, by one instruction, or --count of them (0: until\n"
	"^C). One line an instruction: its address (rip) and its bytes; with the library\n"
	"capstone (libcapstone.so.4 or .so.5), which a static kvmi cannot use, also what\n"
	"it is. Without, there are as many bytes as an instruction can have.\n"
	"'(not completed)' is a step that something else came before, such as a page\n"
	"fault. No interrupt is taken meanwhile. The other vCPUs go on. Afterwards the\n"
	"vCPU goes on as before, in whatever way kvmi ends.\n",
	.run = run,
};
