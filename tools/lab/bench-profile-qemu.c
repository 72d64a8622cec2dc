// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU plugin: how often each instruction was executed, by its address. Written to
 * the file of the argument out= when QEMU ends.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of qemu-plugin.h that is used, so that the header need not be there. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t id,
						      struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*cb)(unsigned int vcpu, void *arg),
					    int flags, void *arg);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
				    void (*cb)(qemu_plugin_id_t id, void *arg), void *arg);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = 3;

#define BUCKETS	(1 << 22)

struct entry {
	uint64_t addr, count;
};

static struct entry *table;
static char *out;

static struct entry *find(uint64_t addr)
{
	size_t i = (addr * 0x9e3779b97f4a7c15ull) >> 42;

	while (table[i].addr && table[i].addr != addr)
		i = (i + 1) % BUCKETS;
	table[i].addr = addr;
	return &table[i];
}

static void executed(unsigned int vcpu, void *arg)
{
	((struct entry *)arg)->count++;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);

	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, 0,
						       find(qemu_plugin_insn_vaddr(insn)));
	}
}

static void at_exit(qemu_plugin_id_t id, void *arg)
{
	FILE *f = fopen(out, "w");
	size_t i;

	for (i = 0; i < BUCKETS; i++) {
		if (table[i].count)
			fprintf(f, "%lx %lu\n", table[i].addr, table[i].count);
	}
	fclose(f);
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	if (argc < 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = strdup(argv[0] + 4);
	table = calloc(BUCKETS, sizeof(*table));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
