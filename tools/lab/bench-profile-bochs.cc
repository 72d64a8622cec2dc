// SPDX-License-Identifier: GPL-2.0
/*
 * Bochs' instrumentation: how often each instruction was executed, by its address. What
 * a guest executes is counted at address 1. Written to the file that is named by the
 * environment's BOCHS_COUNTS when the machine goes off.
 */
#include "cpu/cpu.h"

#define BUCKETS	(1 << 22)

static struct entry {
	Bit64u addr, count;
} table[BUCKETS];

static void write_counts(void)
{
	const char *name = getenv("BOCHS_COUNTS");
	FILE *f = name ? fopen(name, "w") : NULL;

	if (!f)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		if (table[i].count)
			fprintf(f, "%llx %llu\n", table[i].addr, table[i].count);
	}
	fclose(f);
}

void bx_instr_before_execution(unsigned cpu, bxInstruction_c *insn)
{
	Bit64u addr = BX_CPU(cpu)->in_vmx_guest ? 1 : BX_CPU(cpu)->get_instruction_pointer();
	size_t i = (addr * 0x9e3779b97f4a7c15ull) >> 42;

	while (table[i].addr && table[i].addr != addr)
		i = (i + 1) % BUCKETS;
	table[i].addr = addr;
	table[i].count++;
}

void bx_instr_reset(unsigned cpu, unsigned type)
{
	static bool once;

	if (!once)
		atexit(write_counts);
	once = true;
}
