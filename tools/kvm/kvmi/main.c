// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: introspect KVM VMs from the command line.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define VERSION "1.0"

static const struct command * const commands[] = {
	&command_list, &command_info, &command_regs, &command_dump, &command_find,
	&command_pause, &command_resume, &command_trace, &command_step, &command_translate,
	&command_msr_guard, &command_protect, &command_serve,
};

/* A command names those that it takes by their letters. */
static const struct {
	struct option option;
	const char *arg;
	const char *help;
} options[] = {
	{ { "json", no_argument, NULL, 'j' }, "", "output for machines" },
	{ { "timeout", required_argument, NULL, 't' }, "SECONDS",
	  "how long a command to KVM may take (5)" },
	{ { "socket", required_argument, NULL, 's' }, "FD",
	  "use this inherited socket, whose other end KVM has; there is no PID then" },
	{ { "help", no_argument, NULL, 'h' }, "", "this" },
	{ { "version", no_argument, NULL, 'V' }, "", "the version" },
	{ { "vcpu", required_argument, NULL, 'c' }, "N", "only the vCPU with this index" },
	{ { "live", no_argument, NULL, 'l' }, "", "do not pause the VM" },
	{ { "pause", no_argument, NULL, 'p' }, "", "pause the VM" },
	{ { "count", required_argument, NULL, 'n' }, "N", "end after as many; 0: no limit" },
	{ { "seconds", required_argument, NULL, 'S' }, "N", "end after this time" },
	{ { "deadline", required_argument, NULL, 'D' }, "SECONDS",
	  "the guest waits so long for an answer, at most (for ever)" },
	{ { "daemon", no_argument, NULL, 'd' }, "", "go to the background" },
	{ { "hex", no_argument, NULL, 'x' }, "", "STRING has two hexadecimal digits a byte" },
	{ { "raw", no_argument, NULL, 'r' }, "", "the bytes themselves" },
	{ { "from", required_argument, NULL, 'f' }, "GPA", "begin at this address" },
	{ { "to", required_argument, NULL, 'e' }, "GPA", "end before this address" },
	{ { "block", no_argument, NULL, 'b' }, "", "do not let it happen (so it is anyway)" },
	{ { "log", no_argument, NULL, 'L' }, "", "let it happen, and only report it" },
	{ { "fault", required_argument, NULL, 'F' }, "gp|pf",
	  "the exception that the guest gets instead (gp)" },
	{ { "symbols", required_argument, NULL, 'y' }, "FILE",
	  "System.map, kallsyms or vmlinux of the guest's kernel" },
	{ { "dry-run", no_argument, NULL, 'N' }, "", "only say what would be done" },
	{ { "key", required_argument, NULL, 'k' }, "FILE", "what proves to the VMM who we are" },
	{ { "hmac", no_argument, NULL, 'H' }, "", "prove it by HMAC-SHA-256 only" },
};

static const char common_options[] = "jtshV";

static void print_options(const char *which)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *option = &options[i].option;
		char name[40];

		if (!strchr(which, option->val))
			continue;
		snprintf(name, sizeof(name), "--%s %s", option->name, options[i].arg);
		printf("  -%c, %-18s %s\n", option->val, name, options[i].help);
	}
}

static const char *vm_operand(const struct command *command)
{
	return command->vm ? " PID" : "";
}

static void help_command(const struct command *command)
{
	printf("Usage: kvmi %s [OPTION...]%s%s%s\n\n%c%s.\n\n%s", command->name,
	       vm_operand(command), *command->operands ? " " : "", command->operands,
	       command->brief[0] - 'a' + 'A', command->brief + 1, command->help);
	if (command->vm)
		printf("\nPID is the VMM, PID:FD if it has several VMs, or the name of the VM,\n"
		       "or its UUID if 'kvmi serve' has it\n");
	printf("\n");
	print_options(command->options);
	print_options(common_options);
}

static void help_all(void)
{
	size_t i;

	printf("Usage: kvmi COMMAND [OPTION...] [OPERAND...]\n\n"
	       "Look into the VMs of KVM from outside, through KVM introspection. The VMM needs\n"
	       "no part in it; who may ptrace it may do this too. One that has a part in it comes\n"
	       "to 'kvmi serve' by itself.\n\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		char usage[40];

		snprintf(usage, sizeof(usage), "%s%s%s%s", commands[i]->name,
			 vm_operand(commands[i]), *commands[i]->operands ? " " : "",
			 commands[i]->operands);
		printf("  %-24s %s\n", usage, commands[i]->brief);
	}
	printf("\n");
	print_options(common_options);
	printf("\n"
	       "'kvmi COMMAND --help' tells more. One tool can introspect a VM at a time, and all\n"
	       "that it does to the VM ends with it: when kvmi is killed, the VM goes on.\n\n"
	       "Exit code: 0, or 1: nothing found, 2: wrong usage, 3: no such VM, or it is gone,\n"
	       "4: no permission, 5: introspection is off (kvm.introspection=1), 6: kernel without\n"
	       "introspection, or without what it takes, 7: another tool introspects the VM, 8:\n"
	       "the VM is protected, 9: a vCPU does not run, 10: anything else.\n");
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; name && i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static bool parse_seconds(const char *s, double max, double *value)
{
	char *end;

	*value = strtod(s, &end);
	return end != s && !*end && *value > 0 && *value <= max;
}

static bool parse_fault(const char *s, __u8 *vector)
{
	*vector = !strcmp(s, "gp") ? 13 : !strcmp(s, "pf") ? 14 : 0;
	return *vector;
}

/* Returns 0 or STATUS_USAGE. */
static int parse_option(struct tool *tool, int letter, const char *arg)
{
	double seconds = 0;
	__u64 n = 0;
	bool ok = true;

	switch (letter) {
	case 'j':
		tool->json = true;
		break;
	case 't':
		ok = parse_seconds(arg, 1000000, &seconds);
		tool->timeout = seconds * 1000 + 1;
		break;
	case 's':
		ok = parse_number(arg, &n) && n < 1 << 20;
		tool->socket = n;
		break;
	case 'c':
		ok = parse_number(arg, &n) && n < 1 << 16;
		tool->vcpu = n;
		break;
	case 'l':
		tool->live = true;
		break;
	case 'p':
		tool->pause = true;
		break;
	case 'n':
		ok = parse_number(arg, &n) && n < 1ULL << 62;
		tool->count = n;
		break;
	case 'S':
		ok = parse_seconds(arg, 1e9, &tool->seconds);
		break;
	case 'D':
		ok = parse_seconds(arg, 1000000, &tool->deadline);
		break;
	case 'd':
		tool->daemon = true;
		break;
	case 'x':
		tool->hex = true;
		break;
	case 'r':
		tool->raw = true;
		break;
	case 'f':
		ok = parse_number(arg, &tool->from);
		break;
	case 'e':
		ok = parse_number(arg, &tool->to);
		break;
	case 'b':
		tool->block = true;
		break;
	case 'L':
		tool->log = true;
		break;
	case 'F':
		ok = parse_fault(arg, &tool->fault);
		break;
	case 'y':
		tool->symbols = arg;
		break;
	case 'N':
		tool->dry_run = true;
		break;
	case 'k':
		tool->key = arg;
		break;
	case 'H':
		tool->hmac_only = true;
		break;
	}

	return ok ? 0 : fail(tool, STATUS_USAGE, "'%s' makes no sense as an option's value", arg);
}

static void make_getopt(struct option *longs, char *shorts)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		longs[i] = options[i].option;
		*shorts++ = longs[i].val;
		if (longs[i].has_arg)
			*shorts++ = ':';
	}
	memset(&longs[i], 0, sizeof(longs[i]));
	*shorts = '\0';
}

static int run_command(struct tool *tool, const struct command *command, int argc, char **argv)
{
	if (tool->socket >= 0 && !command->vm)
		return fail(tool, STATUS_USAGE, "kvmi %s takes no --socket", command->name);

	if (command->vm && tool->socket < 0) {
		if (!argc)
			return fail(tool, STATUS_USAGE, "which VM? 'kvmi list' lists them");
		tool->which = *argv++;
		argc--;
	}
	if (argc < command->min || argc > command->max)
		return fail(tool, STATUS_USAGE, "usage: kvmi %s [OPTION...]%s%s%s", command->name,
			    vm_operand(command), *command->operands ? " " : "", command->operands);

	return command->run(tool, argc, argv);
}

/* An option that was given, and the command does not have: 0 if there is none */
static int foreign_option(const struct command *command, const char *given)
{
	for (; *given; given++)
		if (!strchr(common_options, *given) && !strchr(command->options, *given))
			return *given;
	return 0;
}

static const char *option_name(int letter)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].option.val == letter)
			return options[i].option.name;
	return "?";
}

int main(int argc, char **argv)
{
	struct tool tool = { .socket = -1, .timeout = 5000, .vcpu = -1, .count = -1 };
	struct option longs[ARRAY_SIZE(options) + 1];
	char shorts[2 * ARRAY_SIZE(options) + 1];
	char given[128] = "";
	const struct command *command;
	bool want_help = false;
	int letter, r = 0;

	tool.out.file = stdout;
	make_getopt(longs, shorts);
	while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (letter == '?')
			return STATUS_USAGE;
		if (letter == 'V') {
			printf("kvmi %s, protocol version %d\n", VERSION, KVMI_VERSION);
			return STATUS_OK;
		}
		want_help |= letter == 'h';
		if (strlen(given) < sizeof(given) - 1)
			given[strlen(given)] = letter;
		r = parse_option(&tool, letter, optarg);
		if (r)
			return r;
	}
	argv += optind;

	if (argv[0] && !strcmp(argv[0], "help")) {
		want_help = true;
		argv++;
	}
	command = find_command(argv[0]);
	if (argv[0] && !command)
		return fail(&tool, STATUS_USAGE, "there is no command '%s': kvmi --help", argv[0]);
	if (want_help && command)
		help_command(command);
	else if (want_help)
		help_all();
	if (want_help)
		return STATUS_OK;
	if (!command)
		return fail(&tool, STATUS_USAGE, "which command? 'kvmi --help' lists them");

	letter = foreign_option(command, given);
	if (letter)
		return fail(&tool, STATUS_USAGE, "kvmi %s has no option --%s", command->name,
			    option_name(letter));

	for (argc = 0; argv[argc + 1]; argc++)
		;
	r = run_command(&tool, command, argc, argv + 1);
	kvmi_free(tool.conn);
	if (fflush(stdout) || ferror(stdout)) {
		perror("kvmi: cannot write");
		r = r ?: STATUS_FAILED;
	}

	return r;
}
