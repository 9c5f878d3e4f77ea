/* The second names of the wrappers (ALIAS in calls.def): each a jump. */
#if defined(__x86_64__)
#define JUMP(name, target) "\tendbr64\n\tjmp " #target "@PLT\n"
#define FUNCTION           "@function"
#elif defined(__aarch64__)
#define JUMP(name, target) "\tb " #target "\n"
#define FUNCTION           "%function"
#endif

#define CALL(name, ret, ...)
#define ALIAS(name, target)                                                                        \
	__asm__(".text\n"                                                                          \
		".globl " #name "\n"                                                               \
		".type " #name ", " FUNCTION "\n" #name                                            \
		":\n" JUMP(name, target) ".size " #name ", .-" #name "\n");
#include "calls.def"
