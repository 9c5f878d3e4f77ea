/* The kernel's own types (BTF): the numbers by which an eBPF program calls one of the kernel's functions. */
#ifndef FINESSE_KERNEL_BTF_H
#define FINESSE_KERNEL_BTF_H

/*
 * The BTF id of that function. -ENOENT: there is none; other -errno: this kernel does not tell. Before Linux 6.16 it
 * reads some MB: milliseconds. Any thread.
 */
int btf_kernel_function(const char *name);

#endif
