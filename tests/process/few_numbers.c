/*
 * How many descriptors a program gets beside its listener, where RLIMIT_NOFILE is small: few_numbers LIMIT
 *
 * Prints the count. It lowers the limit itself, so that the loader and the shell have what they need, and closes what
 * it inherited.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	rlim_t n = argc == 2 ? (rlim_t)atoi(argv[1]) : 0;
	struct rlimit limit = {n, n};
	struct sockaddr_in any = {.sin_family = AF_INET};
	closefrom(3);
	if (!n || setrlimit(RLIMIT_NOFILE, &limit))
		return 2;
	int count = 0, s = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(s, (struct sockaddr *)&any, sizeof any) || listen(s, 1))
		return perror("listen"), 1;
	while (dup(0) >= 0)
		count++;
	printf("%d\n", count);
	return 0;
}
