// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: restricted pages and what KVM's MMU does with memory: huge
 * pages, memory slots, dirty logging, changes of the memory in the host, vCPUs
 * that write while the tool changes its mind.
 */
#include <asm/barrier.h>
#include <linux/sizes.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RWX	(R | W | X)

#define OFFSET		KVMI_PAGE_OFFSET
#define OLD_VALUE	KVMI_PAGE_VALUE
#define NEW_VALUE	0x99aabbccddeeff00ull

/* Memory of its own for the pages, where nothing else is; GVA = GPA. */
#define SLOT		10
#define GPA		SZ_4G
#define HUGE		512

KVMI_TEST_SUITE(kvmi_page_mmu, 2);

static u8 *add_memory(struct kvm_vm *vm, enum vm_mem_backing_src_type type, u64 nr_pages,
		      int level)
{
	vm_userspace_mem_region_add(vm, type, GPA, SLOT, nr_pages, 0);
	virt_map_level(vm, GPA, GPA, nr_pages * PAGE_SIZE, level);

	return addr_gpa2hva(vm, GPA);
}

static u8 *add_small(struct kvm_vm *vm, u64 nr_pages)
{
	return add_memory(vm, VM_MEM_SRC_ANONYMOUS, nr_pages, PG_LEVEL_4K);
}

static void get_page(struct kvm_vm *vm, u64 nr, struct kvmi_page *page)
{
	kvmi_page_init(vm, GPA + nr * PAGE_SIZE, page);
}

static u64 load(struct kvm_vcpu *vcpu, const struct kvmi_page *page)
{
	return kvmi_call(vcpu, kvmi_guest_load, page->gva + OFFSET, 0);
}

/* A store that nothing forbids: an event would keep the call from its end. */
static void store(struct kvm_vcpu *vcpu, const struct kvmi_page *page, u64 val)
{
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, page->gva + OFFSET, val), val);
	TEST_ASSERT_EQ(*page->value, val);
}

static void begin_denied(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, kvmi_guest_fn fn,
			 const struct kvmi_page *page, u64 val, struct kvmi_ev *ev)
{
	kvmi_call_begin(vcpu, fn, page->gva + OFFSET, val);
	kvmi_expect_pf(tool, vcpu->id, page->gva + OFFSET, page->gpa + OFFSET, W, ev);
}

/* A store that is forbidden, and then let through. */
static void store_by(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, kvmi_guest_fn fn,
		     const struct kvmi_page *page, u64 val)
{
	u64 before = *page->value;
	struct kvmi_ev ev;

	begin_denied(tool, vcpu, fn, page, val, &ev);
	TEST_ASSERT_EQ(*page->value, before);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), val);
	TEST_ASSERT_EQ(*page->value, val);
}

/* The emulator does it, or the guest. */
static void store_denied(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			 const struct kvmi_page *page)
{
	store_by(tool, vcpu, kvmi_guest_store, page, NEW_VALUE);
	store_by(tool, vcpu, kvmi_guest_strange_store, page, OLD_VALUE);
}

/* A store that is forbidden, and left out. */
static void store_refused(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			  const struct kvmi_page *page)
{
	u64 before = *page->value;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	begin_denied(tool, vcpu, kvmi_guest_store, page, before + 1, &ev);
	regs = ev.common.arch.regs;
	regs.rip += 3;
	TEST_ASSERT_EQ(kvmi_set_registers(tool, vcpu->id, &regs), 0);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_RETRY);
	kvmi_call_end(vcpu);
	TEST_ASSERT_EQ(*page->value, before);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* What a file in /proc or /sys says after a word, at a line's start; -1 if nothing. */
static long proc_value(const char *path, const char *word)
{
	char line[256];
	long val = -1;
	FILE *f;

	f = fopen(path, "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, word, strlen(word))) {
			val = strtol(line + strlen(word), NULL, 10);
			break;
		}
	}
	fclose(f);

	return val;
}

static bool proc_write(const char *path, long val)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%ld\n", val) > 0;
	return !fclose(f) && ok;
}

/* How much of the memory at @hva, which is mapped alone, are huge pages, in kB. */
static long huge_kb(const void *hva)
{
	unsigned long start, end;
	char line[256];
	bool found = false;
	long kb = 0, val;
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	TEST_ASSERT(f, "No smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = (unsigned long)hva >= start && (unsigned long)hva < end;
		else if (found && (sscanf(line, "AnonHugePages: %ld", &val) == 1 ||
				   sscanf(line, "Private_Hugetlb: %ld", &val) == 1))
			kb += val;
	}
	fclose(f);

	return kb;
}

#define NR_HUGE		3

/*
 * A restricted page keeps the 2M around it from being mapped by a huge page, and
 * nothing else. Returns false if the host has no huge pages now.
 */
static bool test_huge(struct kvm_vm *vm, struct kvm_vcpu *vcpu, struct kvmi_tool *tool,
		      enum vm_mem_backing_src_type type, int level)
{
	static const u16 near[] = { 0, 1, 99, 101, 255, HUGE - 1 };
	struct kvmi_page first[NR_HUGE], neighbour, page, other;
	struct kvmi_runner runner;
	u64 all, small;
	int i, round;
	u8 *hva;

	hva = add_memory(vm, type, NR_HUGE * HUGE, level);
	memset(hva, 0, NR_HUGE * SZ_2M);
	if (huge_kb(hva) < NR_HUGE * SZ_2M / SZ_1K)
		return false;

	for (i = 0; i < NR_HUGE; i++)
		get_page(vm, i * HUGE, &first[i]);
	get_page(vm, HUGE + 100, &page);
	get_page(vm, HUGE + 300, &other);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(tool, 0);

	all = vm_get_stat(vm, pages_2m) + NR_HUGE;
	for (i = 0; i < NR_HUGE; i++) {
		TEST_ASSERT_EQ(load(vcpu, &first[i]), OLD_VALUE);
		store(vcpu, &first[i], NEW_VALUE);
	}
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all);

	for (round = 0; round < 2; round++) {
		kvmi_restrict(tool, &page, R | X);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all - 1);
		small = vm_get_stat(vm, pages_4k);
		for (i = 0; i < ARRAY_SIZE(near); i++) {
			get_page(vm, HUGE + near[i], &neighbour);
			TEST_ASSERT_EQ(load(vcpu, &neighbour), OLD_VALUE);
			store(vcpu, &neighbour, NEW_VALUE);
		}
		for (i = 0; i < NR_HUGE; i++)
			TEST_ASSERT_EQ(load(vcpu, &first[i]), NEW_VALUE);
		TEST_ASSERT_EQ(*page.value, OLD_VALUE);
		TEST_ASSERT_EQ(load(vcpu, &page), OLD_VALUE);
		store_denied(tool, vcpu, &page);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all - 1);
		TEST_ASSERT(vm_get_stat(vm, pages_4k) >= small + ARRAY_SIZE(near),
			    "%lu pages are mapped, after %lu",
			    (unsigned long)vm_get_stat(vm, pages_4k), (unsigned long)small);

		/* With dirty logging there are no huge pages, and then again. */
		vm_mem_region_set_flags(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES);
		for (i = 0; i < NR_HUGE; i++)
			store(vcpu, &first[i], NEW_VALUE);
		store_denied(tool, vcpu, &page);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all - NR_HUGE);
		vm_mem_region_set_flags(vm, SLOT, 0);
		for (i = 0; i < NR_HUGE; i++)
			store(vcpu, &first[i], OLD_VALUE);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all - 1);
		store_denied(tool, vcpu, &page);

		/* The last one that is lifted makes the difference. */
		kvmi_restrict(tool, &other, 0);
		kvmi_restrict(tool, &page, RWX);
		store(vcpu, &page, OLD_VALUE);
		store(vcpu, &first[1], NEW_VALUE);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all - 1);
		small = vm_get_stat(vm, pages_4k);
		/* So does the end of introspection. */
		if (round)
			kvmi_unhook(vm);
		else
			kvmi_restrict(tool, &other, RWX);
		/* This one was mapped all the time. */
		store(vcpu, &first[1], OLD_VALUE);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all);
		TEST_ASSERT(vm_get_stat(vm, pages_4k) < small, "All are still mapped");
		for (i = 0; i < NR_HUGE; i++)
			store(vcpu, &first[i], NEW_VALUE);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), all);
	}
	kvmi_stop(&runner);

	return true;
}

/* With shadow paging the guest's own page has to be huge, too. */
static bool test_huge_levels(enum vm_mem_backing_src_type type)
{
	int level = kvm_is_tdp_enabled() ? PG_LEVEL_4K : PG_LEVEL_2M;
	struct kvm_vcpu *vcpu;
	struct kvmi_tool *tool;
	struct kvm_vm *vm;
	bool ok = true;

	for (; ok && level <= PG_LEVEL_2M; level++) {
		vm = vm_create_with_vcpus(1, NULL, &vcpu);
		tool = kvmi_hook(vm);
		ok = test_huge(vm, vcpu, tool, type, level);
		kvmi_free(tool);
		kvm_vm_free(vm);
	}

	return ok;
}

TEST(huge_thp)
{
	if (!thp_configured())
		SKIP(return, "This kernel has no transparent huge pages");
	if (!test_huge_levels(VM_MEM_SRC_ANONYMOUS_THP))
		SKIP(return, "The host has no transparent huge pages now");
}

TEST(huge_hugetlb)
{
	static const char path[] = "/proc/sys/vm/nr_hugepages";
	long before = proc_value(path, "");
	bool ok;

	if (before < 0 || proc_value("/proc/meminfo", "Hugepagesize:") != SZ_2M / SZ_1K)
		SKIP(return, "This kernel has no hugetlb pages of 2M");
	if (proc_value("/proc/meminfo", "HugePages_Free:") < NR_HUGE &&
	    !proc_write(path, before + NR_HUGE))
		SKIP(return, "There are no hugetlb pages, and no right to have more");
	if (proc_value("/proc/meminfo", "HugePages_Free:") < NR_HUGE) {
		proc_write(path, before);
		SKIP(return, "The host has no hugetlb pages now");
	}
	ok = test_huge_levels(VM_MEM_SRC_ANONYMOUS_HUGETLB);
	proc_write(path, before);
	TEST_ASSERT(ok, "hugetlb pages are not huge");
}

/*
 * vCPUs that write without pause, each to a counter of its own in the same page.
 * What they write is what they have written so often.
 */
#define MAX_RACERS	4
#define RACE_FLIPS	10000

/* All flips take minutes on an emulated host: KVMI_RACE_SECONDS in the environment. */
static int race_seconds(void)
{
	const char *text = getenv("KVMI_RACE_SECONDS");

	return text ? atoi_positive("KVMI_RACE_SECONDS", text) : 10;
}

static bool race_is_over;
static u64 race_total[MAX_RACERS];

static void racer(u64 nr, u64 gva)
{
	u64 n = 0;

	kvmi_guest_may_spin();
	while (!READ_ONCE(race_is_over)) {
		n++;
		switch (n % 3) {
		case 0:
			asm volatile("lock incq (%0)" : : "r"(gva) : "memory", "cc");
			break;
		case 1:
			kvmi_guest_store(gva, n);
			break;
		case 2:
			kvmi_guest_strange_store(gva, n);
			break;
		}
		GUEST_ASSERT_EQ(kvmi_guest_load(gva, 0), n);
	}
	WRITE_ONCE(race_total[nr], n);
	GUEST_DONE();
}

/* KVM itself asks whether it may, and writes. */
static void emulated_racer(u64 nr, u64 gva)
{
	u64 n = 0;

	kvmi_guest_may_spin();
	while (!READ_ONCE(race_is_over)) {
		n++;
		asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(gva), "r"(n) : "memory");
		GUEST_ASSERT_EQ(kvmi_guest_load(gva, 0), n);
	}
	WRITE_ONCE(race_total[nr], n);
	GUEST_DONE();
}

struct race {
	struct kvm_vm *vm;
	struct kvmi_tool *tool;
	struct kvmi_page page;
	int nr;
	u64 *counter[MAX_RACERS];
	u64 seen[MAX_RACERS];		/* of the counters: where they have to be */
	struct kvmi_ev ev[MAX_RACERS];
	bool waits[MAX_RACERS];		/* for the reply to ev */
	u64 events;
	u64 passed;			/* let through while the page was restricted */
};

/* An event; there is one at a time of a vCPU. */
static void race_take(struct race *race)
{
	u64 offset;
	struct kvmi_ev ev;
	u16 v;

	TEST_ASSERT(kvmi_next_event(race->tool, &ev), "Connection closed");
	v = ev.common.vcpu;
	TEST_ASSERT(ev.event.event == KVMI_VCPU_EVENT_PF && v < race->nr,
		    "Event %u of vCPU %u", ev.event.event, v);
	TEST_ASSERT(!race->waits[v], "A second event of vCPU %u", v);
	offset = (u8 *)race->counter[v] - race->page.bytes;
	kvmi_check_pf(&ev, race->page.gva + offset, race->page.gpa + offset, W, false);
	race->ev[v] = ev;
	race->waits[v] = true;
	race->events++;
}

static void race_reply(struct race *race, int v, u8 action)
{
	race->waits[v] = false;
	kvmi_reply(race->tool, &race->ev[v], action);
}

static void race_reply_all(struct race *race, u8 action)
{
	int v;

	for (v = 0; v < race->nr; v++) {
		if (race->waits[v])
			race_reply(race, v, action);
	}
}

/* Until all vCPUs, or one, have come to where they must not go on. */
static void race_wait(struct race *race, int v)
{
	while (!race->waits[v])
		race_take(race);
}

static void race_wait_all(struct race *race)
{
	int v;

	for (v = 0; v < race->nr; v++)
		race_wait(race, v);
}

static void race_look(struct race *race)
{
	int v;

	for (v = 0; v < race->nr; v++)
		race->seen[v] = READ_ONCE(*race->counter[v]);
}

static void race_expect_seen(struct race *race)
{
	int v;

	for (v = 0; v < race->nr; v++)
		TEST_ASSERT(READ_ONCE(*race->counter[v]) == race->seen[v],
			    "vCPU %d wrote %lu after %lu", v,
			    (unsigned long)READ_ONCE(*race->counter[v]),
			    (unsigned long)race->seen[v]);
}

/* The page is not restricted: late events may come, and are of no account. */
static void race_serve(struct race *race)
{
	while (!list_empty(&race->tool->events) || kvmi_readable(race->tool, 0))
		race_take(race);
	race_reply_all(race, KVMI_EVENT_ACTION_RETRY);
}

static void race_let_run(struct race *race)
{
	double end = seconds() + KVMI_TIMEOUT_MS / 1000;
	int v;

	race_look(race);
	for (v = 0; v < race->nr; v++) {
		while (READ_ONCE(*race->counter[v]) < race->seen[v] + 3) {
			race_serve(race);
			TEST_ASSERT(seconds() < end, "vCPU %d does not go on from %lu: %lu events",
				    v, (unsigned long)race->seen[v], (unsigned long)race->events);
		}
	}
}

static void race_flip(struct race *race, int i)
{
	int v, j;

	kvmi_restrict(race->tool, &race->page, i % 2 ? R | X : R);
	race_look(race);

	switch (i % 4) {
	case 0:
		break;
	case 1:
		race_wait_all(race);
		race_expect_seen(race);
		for (v = 0; v < race->nr; v++) {
			race->seen[v]++;
			race_reply(race, v, KVMI_EVENT_ACTION_CONTINUE);
			race->passed++;
		}
		race_wait_all(race);
		race_expect_seen(race);
		race_reply_all(race, KVMI_EVENT_ACTION_RETRY);
		break;
	case 2:
		usleep(100);
		break;
	case 3:
		v = i / 4 % race->nr;
		for (j = 0; j < 4; j++) {
			race_wait(race, v);
			race_expect_seen(race);
			race->seen[v]++;
			race_reply(race, v, KVMI_EVENT_ACTION_CONTINUE);
			race->passed++;
		}
		race_wait(race, v);
		break;
	}
	race_expect_seen(race);

	kvmi_restrict(race->tool, &race->page, RWX);
	/* What was let through may only be done when the page is restricted again. */
	race_reply_all(race, i % 4 == 3 ? KVMI_EVENT_ACTION_CONTINUE : KVMI_EVENT_ACTION_RETRY);
	if (i % 4)
		race_let_run(race);
}

static void test_race(int nr, void *guest)
{
	struct race *race = calloc(1, sizeof(*race));
	struct kvm_vcpu *vcpu[MAX_RACERS];
	struct kvmi_runner runner[MAX_RACERS];
	int limit = race_seconds();
	double start, end;
	u64 total;
	int v, i;

	TEST_ASSERT(race, "No memory");
	race->nr = nr;
	race->vm = vm_create_with_vcpus(nr, guest, vcpu);
	race->tool = kvmi_hook(race->vm);
	kvmi_page_alloc(race->vm, &race->page);
	for (v = 0; v < nr; v++) {
		race->counter[v] = (u64 *)(race->page.bytes + 0x800) + v * 8;
		vcpu_args_set(vcpu[v], 2, (u64)v, race->page.gva + 0x800 + v * 64);
		kvmi_enable_and_start(race->tool, &runner[v], vcpu[v], KVMI_VCPU_EVENT_PF);
	}

	race_let_run(race);
	start = seconds();
	for (i = 0; i < RACE_FLIPS && seconds() < start + limit; i++)
		race_flip(race, i);
	end = seconds();

	*(bool *)addr_gva2hva(race->vm, (gva_t)&race_is_over) = true;
	for (v = 0; v < nr; v++) {
		while (READ_ONCE(runner[v].running))
			race_serve(race);
		kvmi_expect_done(&runner[v]);
		total = ((u64 *)addr_gva2hva(race->vm, (gva_t)race_total))[v];
		TEST_ASSERT_EQ(*race->counter[v], total);
	}
	ksft_print_msg("%d vCPUs, %d times in %.1f s: %lu events, %lu writes let through\n",
		       nr, i, end - start, (unsigned long)race->events,
		       (unsigned long)race->passed);
	TEST_ASSERT(race->events >= i / 4 * nr, "Too few events");

	kvmi_free(race->tool);
	kvm_vm_free(race->vm);
	free(race);
}

FIXTURE(race) {
};

FIXTURE_SETUP(race)
{
}

FIXTURE_TEARDOWN(race)
{
}

FIXTURE_VARIANT(race) {
	int vcpus;
	bool emulated;
};

FIXTURE_VARIANT_ADD(race, two_vcpus) {
	.vcpus = 2,
};

FIXTURE_VARIANT_ADD(race, four_vcpus) {
	.vcpus = 4,
};

FIXTURE_VARIANT_ADD(race, two_emulated) {
	.vcpus = 2,
	.emulated = true,
};

FIXTURE_VARIANT_ADD(race, four_emulated) {
	.vcpus = 4,
	.emulated = true,
};

TEST_F_TIMEOUT(race, flips, 3600)
{
	if (variant->emulated && !is_forced_emulation_enabled)
		SKIP(return, "The parameter kvm.force_emulation_prefix is off");

	test_race(variant->vcpus, variant->emulated ? emulated_racer : racer);
}

/* Many pages: more than 200,000, none of which is populated. */
#define MANY_HUGE	392
#define MANY		(MANY_HUGE * HUGE)
#define PER_MESSAGE	511

#define MANY_SECONDS	15

static double set_many(struct kvmi_tool *tool, int nr, u8 access)
{
	struct kvmi_page_access_entry entries[PER_MESSAGE] = {};
	double start = seconds();
	int i, n;

	for (i = 0; i < nr; i += n) {
		for (n = 0; n < PER_MESSAGE && i + n < nr; n++) {
			entries[n].gpa = GPA + (gpa_t)(i + n) * PAGE_SIZE;
			entries[n].access = access;
		}
		TEST_ASSERT_EQ(kvmi_set_page_accesses(tool, entries, n), 0);
	}

	return seconds() - start;
}

static void restrict_many(struct kvmi_tool *tool, int nr, u8 access, const char *what)
{
	double took = set_many(tool, nr, access);

	ksft_print_msg("%s %d pages: %.2f us each\n", what, nr, took * 1e6 / nr);
}

static void test_samples(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, int nr, bool restricted)
{
	struct kvmi_page page;
	int i;

	for (i = 0; i < nr; i += nr / 61) {
		get_page(vcpu->vm, i, &page);
		TEST_ASSERT_EQ(load(vcpu, &page), OLD_VALUE);
		if (restricted)
			store_by(tool, vcpu, kvmi_guest_store, &page, NEW_VALUE);
		else
			store(vcpu, &page, NEW_VALUE);
	}
}

TEST_F(kvmi_page_mmu, many)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	double start, took;
	long slab;
	int i, nr = MANY;

	add_memory(self->vm, VM_MEM_SRC_ANONYMOUS, MANY, PG_LEVEL_2M);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);

	/* A slow host does not do all. */
	for (i = 0; i < 2; i++) {
		took = set_many(self->tool, PER_MESSAGE, R | X);
		set_many(self->tool, PER_MESSAGE, RWX);
	}
	if (took * MANY / PER_MESSAGE > MANY_SECONDS)
		nr = max(10, (int)(MANY_SECONDS / took)) * PER_MESSAGE;
	test_samples(self->tool, vcpu, nr, false);

	slab = proc_value("/proc/meminfo", "Slab:");
	restrict_many(self->tool, nr, R | X, "Restrict");
	slab = proc_value("/proc/meminfo", "Slab:") - slab;
	ksft_print_msg("%.1f bytes of kernel memory each\n", slab * 1024.0 / nr);
	test_samples(self->tool, vcpu, nr, true);
	restrict_many(self->tool, nr, RWX, "Lift");
	test_samples(self->tool, vcpu, nr, false);

	restrict_many(self->tool, nr, R | X, "Restrict");
	test_samples(self->tool, vcpu, nr, true);
	start = seconds();
	kvmi_unhook(self->vm);
	took = seconds() - start;
	test_samples(NULL, vcpu, nr, false);
	ksft_print_msg("The end of introspection: %.1f ms\n", took * 1000);
	TEST_ASSERT(took < 5, "That is long");
	kvmi_stop(&runner);
}

#define NR_READ		HUGE
#define END_ROUNDS	200
#define END_SECONDS	8

static void guest_read_pages(u64 gva, u64 nr)
{
	u64 i;

	for (;;) {
		for (i = 0; i < nr; i++)
			READ_ONCE(*(u64 *)(gva + i * PAGE_SIZE));
		GUEST_SYNC(0);
	}
}

static struct {
	u8 *bytes;
	bool end;
} dropped;

static void *drop_pages(void *unused)
{
	while (!READ_ONCE(dropped.end))
		TEST_ASSERT(!madvise(dropped.bytes, NR_READ * PAGE_SIZE, MADV_DONTNEED),
			    "madvise");
	return NULL;
}

/*
 * Restrictions go with the connection while the host drops the same pages and a
 * vCPU asks for them.
 */
TEST_F(kvmi_page_mmu, end_while_faulting)
{
	struct kvm_vcpu *vcpu = self->vcpu[1];
	struct kvmi_runner runner;
	pthread_t dropper;
	double start;
	int i;

	dropped.bytes = add_memory(self->vm, VM_MEM_SRC_ANONYMOUS, NR_READ, PG_LEVEL_2M);
	vcpu_arch_set_entry_point(vcpu, guest_read_pages);
	vcpu_args_set(vcpu, 2, (u64)GPA, (u64)NR_READ);
	kvmi_start(&runner, vcpu);
	TEST_ASSERT(!pthread_create(&dropper, NULL, drop_pages, NULL), "pthread_create");

	start = seconds();
	for (i = 0; i < END_ROUNDS && seconds() < start + END_SECONDS; i++) {
		set_many(self->tool, NR_READ, R | X);
		kvmi_unhook(self->vm);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
	WRITE_ONCE(dropped.end, true);
	pthread_join(dropper, NULL);

	/* The guest goes on. */
	kvmi_wait_sync(&runner, READ_ONCE(runner.syncs) + 2);
	kvmi_stop(&runner);
	ksft_print_msg("%d times\n", i);
}

/*
 * Dirty logging: what is written is logged, whoever writes it; what is refused is
 * not.
 */
#define NR_LOGGED	64
#define RING_ENTRIES	4096

enum log_mode {
	LOG_BITMAP,
	LOG_MANUAL,
	LOG_INITIALLY_SET,
	LOG_RING,
};

struct logged {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct kvmi_tool *tool;
	struct kvmi_runner runner;
	enum log_mode mode;
	struct kvmi_page page[NR_LOGGED];
	u32 next;	/* entry of the ring */
};

static u64 collect_ring(struct logged *log)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(log->vcpu), *entry;
	u64 pages = 0;

	/* The processor's own log is read when the guest is left. */
	kvmi_wait_sync(&log->runner, READ_ONCE(log->runner.syncs) + 2);
	for (;; log->next++) {
		entry = &ring[log->next % RING_ENTRIES];
		/* What KVM wrote before it set the flag. */
		if (!(smp_load_acquire(&entry->flags) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		TEST_ASSERT_EQ(entry->slot, SLOT);
		pages |= BIT_ULL(entry->offset);
		/* KVM may use the entry again. */
		smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
	}
	kvm_vm_reset_dirty_ring(log->vm);

	return pages;
}

static u64 collect(struct logged *log)
{
	u64 pages = 0;

	if (log->mode == LOG_RING)
		return collect_ring(log);

	kvm_vm_get_dirty_log(log->vm, SLOT, &pages);
	if (log->mode != LOG_BITMAP)
		kvm_vm_clear_dirty_log(log->vm, SLOT, &pages, 0, NR_LOGGED);

	return pages;
}

/* The pages 1 to 6 are restricted. */
static void write_logged(struct logged *log)
{
	struct kvmi_page *page = log->page;

	store(log->vcpu, &page[0], OLD_VALUE);
	store_by(log->tool, log->vcpu, kvmi_guest_store, &page[1], OLD_VALUE);
	store_by(log->tool, log->vcpu, kvmi_guest_strange_store, &page[2], OLD_VALUE);
	store_refused(log->tool, log->vcpu, &page[3]);
	TEST_ASSERT_EQ(load(log->vcpu, &page[4]), OLD_VALUE);
	store_denied(log->tool, log->vcpu, &page[5]);
	TEST_ASSERT_EQ(kvmi_call(log->vcpu, kvmi_guest_fetch, page[6].gva, 0), KVMI_PAGE_RET);
	kvmi_call(log->vcpu, kvmi_guest_strange_store, page[40].gva + OFFSET, NEW_VALUE);
}

static const u64 logged_pages = BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2) | BIT_ULL(5) | BIT_ULL(40);

static void test_logged(enum log_mode mode)
{
	struct logged *log = calloc(1, sizeof(*log));
	int i, round;

	TEST_ASSERT(log, "No memory");
	log->mode = mode;
	log->vm = vm_create(1);
	if (mode == LOG_RING)
		vm_enable_dirty_ring(log->vm, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	else if (mode == LOG_MANUAL)
		vm_enable_cap(log->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	else if (mode == LOG_INITIALLY_SET)
		vm_enable_cap(log->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	log->vcpu = vm_vcpu_add(log->vm, 0, NULL);
	log->tool = kvmi_hook(log->vm);
	add_small(log->vm, NR_LOGGED);
	for (i = 0; i < NR_LOGGED; i++)
		get_page(log->vm, i, &log->page[i]);
	kvmi_start_agent(&log->runner, log->vcpu);
	kvmi_enable_pf(log->tool, 0);

	/* Mapped before, restricted before the log is switched on, or after. */
	for (i = 0; i < NR_LOGGED; i++)
		load(log->vcpu, &log->page[i]);
	for (i = 1; i <= 3; i++)
		kvmi_restrict(log->tool, &log->page[i], R | X);
	for (round = 0; round < 2; round++) {
		vm_mem_region_set_flags(log->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES);
		for (i = 4; i <= 6; i++)
			kvmi_restrict(log->tool, &log->page[i], R | X);
		/* A page that is mapped anew counts as written, the others are all. */
		for (i = 0; i < NR_LOGGED; i++)
			load(log->vcpu, &log->page[i]);
		collect(log);

		for (i = 0; i < 2; i++) {
			write_logged(log);
			TEST_ASSERT_EQ(collect(log), logged_pages);
			TEST_ASSERT_EQ(collect(log), 0);
		}

		/* And off. */
		vm_mem_region_set_flags(log->vm, SLOT, 0);
		write_logged(log);
		for (i = 4; i <= 6; i++)
			kvmi_restrict(log->tool, &log->page[i], RWX);
	}

	kvmi_stop(&log->runner);
	kvmi_free(log->tool);
	kvm_vm_free(log->vm);
	free(log);
}

TEST(dirty_bitmap)
{
	test_logged(LOG_BITMAP);
}

TEST(dirty_manual)
{
	if (!kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2))
		SKIP(return, "This kernel has no manual protection of dirty pages");
	test_logged(LOG_MANUAL);
	test_logged(LOG_INITIALLY_SET);
}

TEST(dirty_ring)
{
	if (!kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) && !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		SKIP(return, "This kernel has no dirty rings");
	test_logged(LOG_RING);
}

/* What is restricted is a guest page, whatever memory it has, if any. */
TEST_F(kvmi_page_mmu, slots)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	const gpa_t elsewhere = GPA + SZ_1G;
	struct kvmi_page page[4];
	struct kvmi_runner runner;
	int i;

	add_small(self->vm, 4);
	/* Somewhere else there are other pages. */
	virt_map(self->vm, elsewhere, elsewhere, 4);
	for (i = 0; i < 4; i++)
		get_page(self->vm, i, &page[i]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[1], R | X);
	kvmi_restrict(self->tool, &page[2], 0);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, elsewhere, R), -KVM_EINVAL);
	for (i = 0; i < 4; i += 3)
		store(vcpu, &page[i], NEW_VALUE);
	store_denied(self->tool, vcpu, &page[1]);

	/* Deleted, and created again with other memory. */
	vm_mem_region_delete(self->vm, SLOT);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[3].gpa, R), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[1].gpa, RWX), -KVM_EINVAL);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, 4, 0);
	for (i = 0; i < 4; i++)
		get_page(self->vm, i, &page[i]);
	for (i = 0; i < 4; i += 3)
		store(vcpu, &page[i], NEW_VALUE);
	TEST_ASSERT_EQ(load(vcpu, &page[1]), OLD_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);

	/* Moved: the pages of the new place are not restricted. */
	vm_mem_region_move(self->vm, SLOT, elsewhere);
	for (i = 0; i < 4; i++) {
		kvmi_page_init(self->vm, elsewhere + i * PAGE_SIZE, &page[i]);
		TEST_ASSERT_EQ(load(vcpu, &page[i]), OLD_VALUE);
		store(vcpu, &page[i], NEW_VALUE);
	}
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, GPA, R), -KVM_EINVAL);
	kvmi_restrict(self->tool, &page[3], R);
	store_denied(self->tool, vcpu, &page[3]);
	vm_mem_region_move(self->vm, SLOT, GPA);
	for (i = 0; i < 4; i++)
		get_page(self->vm, i, &page[i]);
	for (i = 0; i < 4; i += 3)
		store(vcpu, &page[i], NEW_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Two slots with the same memory: each page of the guest is one of its own. */
TEST_F(kvmi_page_mmu, alias)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	const gpa_t elsewhere = GPA + SZ_1G;
	struct kvmi_page page, alias;
	struct kvmi_runner runner;
	u8 *hva;

	hva = add_small(self->vm, 1);
	get_page(self->vm, 0, &page);
	vm_set_user_memory_region(self->vm, SLOT + 1, 0, elsewhere, PAGE_SIZE, hva);
	virt_map(self->vm, elsewhere, elsewhere, 1);
	alias = page;
	alias.gva = elsewhere;
	alias.gpa = elsewhere;
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);

	kvmi_restrict(self->tool, &page, 0);
	store(vcpu, &alias, NEW_VALUE);
	store_denied(self->tool, vcpu, &page);
	kvmi_restrict(self->tool, &alias, R | X);
	kvmi_restrict(self->tool, &page, RWX);
	store(vcpu, &page, NEW_VALUE);
	TEST_ASSERT_EQ(load(vcpu, &alias), NEW_VALUE);
	store_denied(self->tool, vcpu, &alias);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
	vm_set_user_memory_region(self->vm, SLOT + 1, 0, elsewhere, 0, hva);
}

/* A write to memory that is read-only for the guest goes to the VMM, if it may. */
TEST_F(kvmi_page_mmu, readonly)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvm_run *run = vcpu->run;
	struct kvmi_page page[2];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, 2,
				    KVM_MEM_READONLY);
	virt_map(self->vm, GPA, GPA, 2);
	for (i = 0; i < 2; i++)
		get_page(self->vm, i, &page[i]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[1], R | X);

	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(load(vcpu, &page[i]), OLD_VALUE);
		if (i)
			begin_denied(self->tool, vcpu, kvmi_guest_store, &page[i], NEW_VALUE, &ev);
		else
			kvmi_call_begin(vcpu, kvmi_guest_store, page[i].gva + OFFSET, NEW_VALUE);
		if (i)
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_join(&runner);
		TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_MMIO);
		TEST_ASSERT(run->mmio.is_write && run->mmio.len == 8, "Not the write");
		TEST_ASSERT_EQ(run->mmio.phys_addr, page[i].gpa + OFFSET);
		TEST_ASSERT_EQ(*(u64 *)run->mmio.data, NEW_VALUE);
		kvmi_start(&runner, vcpu);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
		TEST_ASSERT_EQ(*page[i].value, OLD_VALUE);
	}
	kvmi_expect_quiet(self->tool);

	store_refused(self->tool, vcpu, &page[1]);
	kvmi_restrict(self->tool, &page[0], 0);
	kvmi_call_begin(vcpu, kvmi_guest_load, page[0].gva + OFFSET, 0);
	kvmi_expect_pf(self->tool, 0, page[0].gva + OFFSET, page[0].gpa + OFFSET, R, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), OLD_VALUE);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The host changes its mind about the memory. */
TEST_F(kvmi_page_mmu, notifier)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_page page[4];
	struct kvmi_runner runner;
	u8 *hva;
	int i;

	hva = add_small(self->vm, 4);
	for (i = 0; i < 4; i++)
		get_page(self->vm, i, &page[i]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[1], R | X);
	kvmi_restrict(self->tool, &page[2], 0);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(load(vcpu, &page[i]), OLD_VALUE);

	TEST_ASSERT(!madvise(hva, 4 * PAGE_SIZE, MADV_DONTNEED), "madvise");
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(load(vcpu, &page[i]), 0);
	store(vcpu, &page[0], NEW_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);

	TEST_ASSERT(!mprotect(hva, 4 * PAGE_SIZE, PROT_READ), "mprotect");
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(load(vcpu, &page[i]), i ? OLD_VALUE : NEW_VALUE);
	store_refused(self->tool, vcpu, &page[1]);
	TEST_ASSERT(!mprotect(hva, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE), "mprotect");
	store(vcpu, &page[0], OLD_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);

	/* Other memory at the same address. */
	TEST_ASSERT(mmap(hva, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hva, "mmap");
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(load(vcpu, &page[i]), 0);
	store(vcpu, &page[0], NEW_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Pages that are the same are merged, and taken apart by a write. */
TEST_F(kvmi_page_mmu, ksm)
{
	static const char run[] = "/sys/kernel/mm/ksm/run";
	long before = proc_value(run, ""), merged = 0;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_page page[3];
	struct kvmi_runner runner;
	u8 *hva;
	int i;

	if (before < 0)
		SKIP(return, "This kernel does not merge pages");

	hva = add_small(self->vm, 3);
	for (i = 0; i < 3; i++) {
		get_page(self->vm, i, &page[i]);
		memset(page[i].bytes + 0x800, 0x5a, 0x800);
	}
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[1], R | X);
	for (i = 0; i < 3; i++)
		load(vcpu, &page[i]);

	TEST_ASSERT(!madvise(hva, 3 * PAGE_SIZE, MADV_MERGEABLE), "madvise");
	if (!proc_write(run, 1))
		SKIP(kvmi_stop(&runner); return, "No right to have pages merged");
	for (i = 0; i < KVMI_TIMEOUT_MS / 20 && merged < 2; i++) {
		usleep(20000);
		merged = proc_value("/sys/kernel/mm/ksm/pages_sharing", "");
	}
	proc_write(run, before);
	TEST_ASSERT(merged >= 2, "Nothing is merged");

	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(load(vcpu, &page[i]), OLD_VALUE);
	store_by(self->tool, vcpu, kvmi_guest_strange_store, &page[1], NEW_VALUE);
	TEST_ASSERT_EQ(*page[0].value, OLD_VALUE);
	TEST_ASSERT_EQ(*page[2].value, OLD_VALUE);
	store(vcpu, &page[0], NEW_VALUE);
	TEST_ASSERT_EQ(*page[2].value, OLD_VALUE);
	store_denied(self->tool, vcpu, &page[1]);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* What the VMM has mapped in advance is as restricted as anything else. */
TEST_F(kvmi_page_mmu, prefault)
{
	struct kvm_pre_fault_memory range = { .gpa = GPA, .size = 8 * PAGE_SIZE };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_page page[8];
	u64 mapped;
	int i;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM maps no memory in advance here");

	add_small(self->vm, 8);
	for (i = 0; i < 8; i++)
		get_page(self->vm, i, &page[i]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_stop(&runner);
	kvmi_restrict(self->tool, &page[1], R | X);
	kvmi_restrict(self->tool, &page[2], 0);
	kvmi_restrict(self->tool, &page[3], R);

	mapped = vm_get_stat(self->vm, pages_4k);
	if (__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range)) {
		TEST_ASSERT(errno == EOPNOTSUPP && !kvm_is_tdp_enabled(),
			    "KVM_PRE_FAULT_MEMORY: %s", strerror(errno));
		SKIP(return, "KVM maps no memory in advance without TDP");
	}
	while (range.size)
		vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	TEST_ASSERT_EQ(vm_get_stat(self->vm, pages_4k), mapped + 7);
	kvmi_expect_quiet(self->tool);

	kvmi_start_agent(&runner, vcpu);
	for (i = 4; i < 8; i++)
		store(vcpu, &page[i], NEW_VALUE);
	for (i = 1; i <= 3; i++)
		store_denied(self->tool, vcpu, &page[i]);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Memory that is a guest_memfd. */
TEST_F(kvmi_page_mmu, guest_memfd)
{
	u64 flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_page page[3];
	struct kvmi_runner runner;
	int i, fd;
	u8 *mem;

	if ((vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS) & flags) != flags)
		SKIP(return, "An ordinary VM cannot have a guest_memfd as its memory");

	fd = vm_create_guest_memfd(self->vm, 3 * PAGE_SIZE, flags);
	mem = kvm_mmap(3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	vm_set_user_memory_region2(self->vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, 3 * PAGE_SIZE,
				   mem, fd, 0);
	virt_map(self->vm, GPA, GPA, 3);
	for (i = 0; i < 3; i++) {
		page[i].gva = GPA + i * PAGE_SIZE;
		page[i].gpa = page[i].gva;
		page[i].bytes = mem + i * PAGE_SIZE;
		page[i].value = (u64 *)(page[i].bytes + OFFSET);
		kvmi_page_fill(page[i].bytes);
	}
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[1], R | X);
	kvmi_restrict(self->tool, &page[2], 0);

	store(vcpu, &page[0], NEW_VALUE);
	TEST_ASSERT_EQ(load(vcpu, &page[1]), OLD_VALUE);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_fetch, page[1].gva, 0), KVMI_PAGE_RET);
	store_denied(self->tool, vcpu, &page[1]);
	store_denied(self->tool, vcpu, &page[2]);
	store_refused(self->tool, vcpu, &page[1]);
	for (i = 1; i < 3; i++) {
		kvmi_restrict(self->tool, &page[i], RWX);
		store(vcpu, &page[i], NEW_VALUE);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
	kvm_munmap(mem, 3 * PAGE_SIZE);
	close(fd);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
