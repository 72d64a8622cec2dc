/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: programs to begin with, in the format that
 * kvmi_fuzz_program.h describes.
 */
#ifndef KVMI_FUZZ_CORPUS_H
#define KVMI_FUZZ_CORPUS_H

static const char * const fuzz_corpus[] = {
	/* Every command, the arguments being zeros. */
	"m2 m4.8 m6.8 m8 m10.8 m12.16 m14.16 m16.8 m18.8 m20 m22.8 m3.8 m5.16 m7.16 m9.152 ",
	"m11.16 m13.16 m15.24 m17.16 m19.8 m21.4104 m23.16 m25.16 m27.16 m29.16",
	/* Events, and their replies. */
	"m16.8:0001 w0 r0.16 m16.8:0101 w1 r1.16",
	"m5.16:(8)030001 w0 r0.16 w0 r0.16 w0 r0.16:(8)02",
	"m5.16:(8)070001 m13.16:(8)0301 m13.16:(8)0401 m13.16:(8)0001 w0 r0.24 w0 r0.24 w0 r0.24",
	"m5.16:(8)0f0001 m25.16:(8)01(3)76010000 w0 r0.24 w0 r0.24:(16)01 w0 r0.24",
	"m5.16:(8)0d0001 w0 r0.16 w0 r0.16:(8)01 w0 r0.16",
	"m5.16:(8)0b0001 w0 r0.16 w0 r0.16",
	"m5.16:(8)050001 w0 r0.16 w0 r0.16",
	"m5.16:(8)110001 m22.24:01(10)10 w0 r0.16 w0 r0.16:(8)01 w0 r0.16",
	"m27.16:(8)01 w0 r0.16 w0 r0.16 w0 r0.16 m27.16",
	"m16.8 w0 m15.24:(8)0e(3)02(7)10 r0.16 w0 r0.16 w0 r0.16",
	"m16.8 w0 m9.152:(136)(3)10 r0.16 w0",
	"m10.8:000001 p0 p0 m10.8 p0",
	/* The rules. */
	"m2.8185", "m14.16:(8)08", "m22.8:01", "R0.16", "m16.8 w0 r0.15", "m16.8 w0 r0.17",
	"m16.8 w0 r0.16 R0.16", "m2.64.8 m2 m2 m2", "m2 s4 m2 x0", "R0.16.16.1",
	"t5.2 m5.16:(8)030001 w0 w0 w0", "d0 m12.16:(3)10(4)0010 m2 m2 q0", "e1.0 m16.8 m6.8:01",
	"c8.0 m8 m4.8:08",
};

#endif
