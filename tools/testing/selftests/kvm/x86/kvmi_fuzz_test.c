// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a fuzzer of the socket protocol. It makes programs for a tool of
 * commands, event replies and other things a tool or a VMM can do, many of them wrong, and
 * knows what KVM must make of each.
 *
 * In the environment: KVMI_FUZZ_SEED; KVMI_FUZZ_MESSAGES, how many; KVMI_FUZZ_PRINT=1
 * prints the programs that cover most with the fewest messages, for kvmi_fuzz_corpus.h;
 * KVMI_FUZZ_PROGRAM is one that is carried out again and again instead (with commas, where
 * there can be no spaces). The same seed gives the same programs, as long as KCOV does not
 * tell which ones to go on with.
 */
#include <stdarg.h>

#include "kvm_test_harness.h"
#include "kvmi_fuzz_corpus.h"
#include "kvmi_fuzz_text.h"
#include "kvmi_fuzz_tool.h"
#include "kvmi_util.h"
#include "test_util.h"

#define DEFAULT_MESSAGES	5000

/* Programs between two looks at whether KVM is alive, and for a connection. */
#define BATCH			8
#define MAX_PROGRAMS		64
/* Connections of a VM. */
#define VM_CONNECTIONS		64

#define REPORT_MS		10000

#define MAX_CORPUS		1024

static u32 seed;
static u64 nr_programs;
static struct fuzz_program *corpus[MAX_CORPUS];
static u32 nr_corpus;

/* Those that were not checked yet. */
static struct fuzz_program *recent[BATCH];
static u32 nr_recent;

static struct cover main_cover;
static struct cover_set *covered;

void fuzz_fail(const char *format, ...)
{
	char text[256];
	va_list args;
	int i;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("# KVMI_FUZZ_SEED=%u, connection %lu, message %lu, in or before program %lu:\n",
	       seed, (unsigned long)tool.connections, (unsigned long)tool.model.messages,
	       (unsigned long)nr_programs);
	for (i = 0; i < nr_recent; i++)
		fuzz_print(recent[i]);
	fflush(stdout);
	TEST_FAIL("%s", text);
}

/* Seconds for a program; not to hang is up to us, too. */
#define HANG_S			(3 * KVMI_TIMEOUT_MS / 1000)

static void at_alarm(int sig)
{
	fuzz_fail("It hangs");
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static u64 get_setting(const char *name, u64 value)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : value;
}

static void add_to_corpus(const struct fuzz_program *prog)
{
	struct fuzz_program *copy;

	if (nr_corpus == MAX_CORPUS)
		return;
	copy = malloc(offsetof(struct fuzz_program, steps[prog->nr]));
	TEST_ASSERT(copy, "No memory");
	fuzz_copy(copy, prog);
	corpus[nr_corpus++] = copy;
}

static void read_corpus(void)
{
	struct fuzz_program *prog = fuzz_new_program();
	const char *text = getenv("KVMI_FUZZ_PROGRAM");
	int i = 0;

	if (text) {
		fuzz_parse(text, prog);
		add_to_corpus(prog);
	}
	while (!text && i < ARRAY_SIZE(fuzz_corpus)) {
		i += fuzz_parse_lines(&fuzz_corpus[i], prog);
		add_to_corpus(prog);
	}
	free(prog);
}

/* What all threads have executed since the last time. */
static u32 collect(struct cover_set *set)
{
	u32 i, new = cover_collect(&main_cover, set);

	for (i = 0; i < FUZZ_RUNNING; i++)
		new += cover_collect(&fuzz_vm.vcpus[i].cover, set);
	return new;
}

static void reconnect(void)
{
	bool wild = tool.model.wild;

	tool_disconnect();
	if (tool.connections % VM_CONNECTIONS == 0) {
		fuzz_vm_destroy();
		fuzz_vm_create(&tool.model);
	} else if (wild || fuzz_one_in(4)) {
		fuzz_vm_restart(wild);
	}
	tool_connect();
	nr_recent = 0;
}

/* The programs of the corpus as they are, then others. */
static void choose_program(struct fuzz_program *prog)
{
	u32 changes;

	fuzz_seed(seed, nr_programs);
	if (nr_programs < nr_corpus || getenv("KVMI_FUZZ_PROGRAM"))
		return fuzz_copy(prog, corpus[nr_programs % nr_corpus]);
	if (fuzz_one_in(4)) {
		fuzz_make_program(prog);
	} else {
		fuzz_copy(prog, corpus[fuzz_below(nr_corpus)]);
		while (!fuzz_one_in(4))
			fuzz_append(prog, corpus[fuzz_below(nr_corpus)]);
		for (changes = 1 + fuzz_below(fuzz_one_in(4) ? 16 : 4); changes; changes--)
			fuzz_mutate(prog, corpus[fuzz_below(nr_corpus)]);
	}
	/* A new connection takes much longer than a message. */
	if (!fuzz_one_in(24))
		fuzz_remove_ends(prog);
}

static void fuzz_one(void)
{
	struct fuzz_program *prog = recent[nr_recent++];

	choose_program(prog);
	nr_programs++;
	alarm(HANG_S);
	/* Let a vCPU read the socket: KCOV sees what it does. */
	if (fuzz_one_in(tool.hurry ? 4 : 2) && !tool.model.vcpu[0].waits) {
		static const u8 vcpu0[8];

		tool_write_frame(KVMI_VM_PAUSE_VCPU, sizeof(vcpu0), sizeof(vcpu0), ++tool.seq,
				 vcpu0, sizeof(vcpu0));
		tool_flush(0);
		tool_read(WAIT_MS);
	}
	/* Meanwhile, a guest runs. */
	if (fuzz_one_in(2))
		fuzz_vm_wake(fuzz_below(FUZZ_RUNNING));
	tool_run(prog);
	if (main_cover.area || nr_recent == BATCH) {
		tool_check_alive();
		if (collect(covered))
			add_to_corpus(prog);
		nr_recent = 0;
	}
	if (tool.eof || tool.hung_up || tool.model.must_close || fuzz_one_in(MAX_PROGRAMS)) {
		tool_check_alive();
		reconnect();
	}
}

/* What a program covers on its own. */
static void measure(const struct fuzz_program *prog, struct cover_set *set)
{
	alarm(HANG_S);
	reconnect();
	collect(set);
	memset(set, 0, sizeof(*set));
	fuzz_copy(recent[0], prog);
	nr_recent = 1;
	tool_run(prog);
	tool_check_alive();
	collect(set);
}

/* What one set has, and another has not, added to a third. */
static u32 subtract(struct cover_set *to, const struct cover_set *from,
		    const struct cover_set *without)
{
	struct cover_set *all = cover_new_set();
	u32 i, nr = to->nr;

	*all = *without;
	for (i = 0; i < COVER_SET; i++) {
		if (from->pcs[i] && cover_add(all, from->pcs[i]))
			cover_add(to, from->pcs[i]);
	}
	free(all);

	return to->nr - nr;
}

static bool covers(const struct cover_set *set, const struct cover_set *wanted)
{
	struct cover_set *missing = cover_new_set();
	u32 nr = subtract(missing, wanted, set);

	free(missing);
	return !nr;
}

/* Without what it does not need to cover something. */
static void minimise(struct fuzz_program *prog, const struct cover_set *wanted)
{
	struct fuzz_program *shorter = fuzz_new_program();
	struct cover_set *set = cover_new_set();
	int i, tries;

	for (i = prog->nr - 1; i >= 0 && prog->nr > 1; i--) {
		fuzz_copy(shorter, prog);
		fuzz_remove(shorter, i);
		for (tries = 0; tries < 2; tries++) {
			measure(shorter, set);
			if (!covers(set, wanted))
				continue;
			fuzz_copy(prog, shorter);
			break;
		}
	}
	free(set);
	free(shorter);
}

/* The programs that add something to those before, the best ones first. */
static void print_corpus(void)
{
	struct cover_set **sets = calloc(nr_corpus, sizeof(*sets));
	struct cover_set *total = cover_new_set(), *new, *best;
	struct fuzz_program *prog = fuzz_new_program();
	u32 i, best_nr = 0, nr = 0;

	for (i = 0; i < nr_corpus; i++) {
		sets[i] = cover_new_set();
		measure(corpus[i], sets[i]);
	}

	for (;;) {
		best = cover_new_set();
		for (i = 0; i < nr_corpus; i++) {
			new = cover_new_set();
			if (subtract(new, sets[i], total) <= best->nr) {
				free(new);
				continue;
			}
			free(best);
			best = new;
			best_nr = i;
		}
		if (!best->nr)
			break;

		cover_merge(total, sets[best_nr]);
		fuzz_copy(prog, corpus[best_nr]);
		minimise(prog, best);
		printf("# \t/* %u more PCs */\n", best->nr);
		fuzz_print(prog);
		fflush(stdout);
		free(best);
		nr++;
	}
	ksft_print_msg("%u programs cover %u PCs on their own\n", nr, total->nr);
}

FIXTURE(kvmi_fuzz) {
};

FIXTURE_SETUP(kvmi_fuzz)
{
	struct sigaction sa = { .sa_handler = leave_kvm_run };
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGALRM, at_alarm);
	seed = get_setting("KVMI_FUZZ_SEED", 1);
	read_corpus();
	covered = cover_new_set();
	for (i = 0; i < BATCH; i++)
		recent[i] = fuzz_new_program();
}

FIXTURE_TEARDOWN(kvmi_fuzz)
{
}

/* What is printed is what was meant. */
TEST_F(kvmi_fuzz, text)
{
	struct fuzz_program *prog = fuzz_new_program(), *again = fuzz_new_program();
	char text[FUZZ_STEPS * (FUZZ_STEP_TEXT + 1)];
	int round, i, n;

	for (round = 0; round < 300; round++) {
		fuzz_seed(seed, round);
		fuzz_make_program(prog);
		for (i = 0, n = 0; i < prog->nr; i++) {
			fuzz_trim(&prog->steps[i]);
			n += fuzz_print_step(text + n, &prog->steps[i]);
			text[n++] = i < prog->nr - 1 ? ' ' : 0;
		}
		fuzz_parse(text, again);
		TEST_ASSERT_EQ(again->nr, prog->nr);
		for (i = 0; i < prog->nr; i++)
			TEST_ASSERT(!memcmp(&again->steps[i], &prog->steps[i],
					    fuzz_step_size(&prog->steps[i])), "Not the same: %s",
				    text);
	}
}

static void report(u64 ms)
{
	ksft_print_msg("seed %u: %lu messages, %lu programs, %lu connections in %lu ms\n", seed,
		       (unsigned long)tool.model.messages, (unsigned long)nr_programs,
		       (unsigned long)tool.connections, (unsigned long)ms);
	ksft_print_msg("%lu replies, %lu events, %lu connections closed by KVM, %lu guests lost\n",
		       (unsigned long)tool.replies, (unsigned long)tool.events,
		       (unsigned long)tool.closed, (unsigned long)fuzz_vm.resets);
	ksft_print_msg("%u programs in the corpus, %u PCs covered\n", nr_corpus, covered->nr);
}

static void begin(void)
{
	struct sched_param param = {};

	/*
	 * To switch to another thread takes longer than a message: that there is one for it is
	 * no reason yet. KVM's thread deals with all it was sent, then the tool reads it all.
	 */
	TEST_ASSERT(!sched_setscheduler(0, SCHED_BATCH, &param), "SCHED_BATCH");
	cover_open(&main_cover);
	cover_enable(&main_cover);
	tool_init();
	tool.hurry = !main_cover.area && !getenv("KVMI_FUZZ_PROGRAM");
	fuzz_vm_create(&tool.model);
	fuzz_seed(seed, ~0ull);
	tool_connect();
}

static void end(void)
{
	alarm(0);
	tool_disconnect();
	fuzz_vm_destroy();
	cover_disable(&main_cover);
	cover_close(&main_cover);
}

/* One step, and no other, is wrong. */
static void try_step(const struct fuzz_step *step)
{
	struct fuzz_program *prog = recent[0];

	alarm(HANG_S);
	fuzz_copy_step(&prog->steps[0], step);
	prog->nr = 1;
	nr_recent = 1;
	nr_programs++;
	tool_run(prog);
	if (nr_programs % 4 == 0 || tool.model.must_close)
		tool_check_alive();
	if (tool.eof || tool.model.must_close)
		reconnect();
}

/* Each byte of each request is wrong once, or different. */
TEST_F(kvmi_fuzz, each_byte)
{
	static const u8 changes[] = { 0x01, 0x80 };
	struct fuzz_step good, step;
	u32 i, at, change;

	begin();
	for (i = 0; i < ARRAY_SIZE(fuzz_commands); i++) {
		fuzz_seed(seed, i);
		fuzz_make_command(&good, &fuzz_commands[i]);
		try_step(&good);
		for (at = 0; at < min_t(u32, fuzz_commands[i].size, 40); at++) {
			for (change = 0; change < ARRAY_SIZE(changes); change++) {
				fuzz_copy_step(&step, &good);
				fuzz_put(&step, at, 1, fuzz_get(&step, at, 1) ^ changes[change]);
				try_step(&step);
			}
		}
	}
	tool_check_alive();
	ksft_print_msg("%lu messages\n", (unsigned long)tool.model.messages);
	end();
}

TEST_F_TIMEOUT(kvmi_fuzz, programs, 86400)
{
	u64 messages = get_setting("KVMI_FUZZ_MESSAGES", DEFAULT_MESSAGES), start_ms, report_ms, ms;

	ksft_print_msg("KVMI_FUZZ_SEED=%u KVMI_FUZZ_MESSAGES=%lu\n", seed, (unsigned long)messages);
	begin();
	start_ms = now_ms();
	report_ms = start_ms + REPORT_MS;
	while (tool.model.messages < messages) {
		fuzz_one();
		if (now_ms() < report_ms)
			continue;
		report(now_ms() - start_ms);
		report_ms += REPORT_MS;
	}
	tool_check_alive();
	ms = now_ms() - start_ms;

	report(ms);
	if (main_cover.area && get_setting("KVMI_FUZZ_PRINT", 0))
		print_corpus();
	end();
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
