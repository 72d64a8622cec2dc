// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: names of x86 registers and exceptions.
 */
#include <strings.h>

#include "internal.h"

static const struct {
	const char *name;
	__u32 index;
} msrs[] = {
	{ "TSC", 0x10 },
	{ "APIC_BASE", 0x1b },
	{ "FEATURE_CONTROL", 0x3a },
	{ "TSC_ADJUST", 0x3b },
	{ "SPEC_CTRL", 0x48 },
	{ "PRED_CMD", 0x49 },
	{ "MISC_FEATURES_ENABLES", 0x140 },
	{ "SYSENTER_CS", 0x174 },
	{ "SYSENTER_ESP", 0x175 },
	{ "SYSENTER_EIP", 0x176 },
	{ "MISC_ENABLE", 0x1a0 },
	{ "DEBUGCTL", 0x1d9 },
	{ "PAT", 0x277 },
	{ "MTRR_DEF_TYPE", 0x2ff },
	{ "DS_AREA", 0x600 },
	{ "U_CET", 0x6a0 },
	{ "S_CET", 0x6a2 },
	{ "TSC_DEADLINE", 0x6e0 },
	{ "XSS", 0xda0 },
	{ "EFER", 0xc0000080 },
	{ "STAR", 0xc0000081 },
	{ "LSTAR", 0xc0000082 },
	{ "CSTAR", 0xc0000083 },
	{ "SFMASK", 0xc0000084 },
	{ "FS_BASE", 0xc0000100 },
	{ "GS_BASE", 0xc0000101 },
	{ "KERNEL_GS_BASE", 0xc0000102 },
	{ "TSC_AUX", 0xc0000103 },
};

static const char * const crs[] = {
	[0] = "cr0", [3] = "cr3", [4] = "cr4",
};

static const char * const descriptors[] = {
	[KVMI_DESC_IDTR] = "idtr", [KVMI_DESC_GDTR] = "gdtr",
	[KVMI_DESC_LDTR] = "ldtr", [KVMI_DESC_TR] = "tr",
};

static const char * const exceptions[] = {
	[0] = "#DE", [1] = "#DB", [2] = "NMI", [3] = "#BP", [4] = "#OF", [5] = "#BR", [6] = "#UD",
	[7] = "#NM", [8] = "#DF", [10] = "#TS", [11] = "#NP", [12] = "#SS", [13] = "#GP",
	[14] = "#PF", [16] = "#MF", [17] = "#AC", [18] = "#MC", [19] = "#XM", [20] = "#VE",
	[21] = "#CP", [28] = "#HV", [29] = "#VC", [30] = "#SX",
};

/**
 * kvmi_msr_name - name an MSR
 * @msr: its index
 *
 * Return: its name, NULL if it is not one of those that are well known
 */
const char *kvmi_msr_name(__u32 msr)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (msrs[i].index == msr)
			return msrs[i].name;
	return NULL;
}

/**
 * kvmi_msr_index - find an MSR by its name
 * @name: in upper or lower case
 * @msr: out: its index
 *
 * Return: true if it is known
 */
bool kvmi_msr_index(const char *name, __u32 *msr)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		if (!strcasecmp(msrs[i].name, name)) {
			*msr = msrs[i].index;
			return true;
		}
	}
	return false;
}

/**
 * kvmi_cr_name - name a control register
 * @cr: its number
 *
 * Return: its name, NULL if it is none that can be introspected
 */
const char *kvmi_cr_name(unsigned int cr)
{
	return cr < ARRAY_SIZE(crs) ? crs[cr] : NULL;
}

/**
 * kvmi_descriptor_name - name a descriptor table register
 * @descriptor: KVMI_DESC_*
 *
 * Return: its name, NULL if there is no such register
 */
const char *kvmi_descriptor_name(unsigned int descriptor)
{
	return descriptor < ARRAY_SIZE(descriptors) ? descriptors[descriptor] : NULL;
}

/**
 * kvmi_exception_name - name an exception
 * @nr: its vector
 *
 * Return: its name, NULL if the vector has none
 */
const char *kvmi_exception_name(unsigned int nr)
{
	return nr < ARRAY_SIZE(exceptions) ? exceptions[nr] : NULL;
}
