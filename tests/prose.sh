#!/bin/sh
# Comments in src, preload and include end at 120 columns (a tab counts as eight), so that two files can be read side by
# side. Wider may be code, a comment behind code, and a diagram or a table, which stand two blanks in.
set -u
srcdir=${srcdir:-.}
LC_ALL=C find "$srcdir/src" "$srcdir/preload" "$srcdir/include" -name '*.[ch]' -exec awk '
	function columns(line,    i, n) {
		gsub(/[\200-\277]/, "", line) # what follows the first byte of a letter in UTF-8
		for (i = 1; i <= length(line); i++)
			n += substr(line, i, 1) == "\t" ? 8 - n % 8 : 1
		return n
	}
	FNR == 1 { inside = 0; files++ }
	/^[ \t]*\/\*/ { inside = 1 }
	inside && length($0) > 100 && /^[ \t]*(\/\*|\*|  ) ?[^ ]/ && !/\*\/[ \t]*[^ \t]/ && columns($0) > 120 {
		print FILENAME ":" FNR ": a comment of " columns($0) " columns"
		wide++
	}
	/\*\// { inside = 0 }
	END {
		print "prose: looked at " files " files"
		if (files < 300) print "prose: so few cannot be right"
		exit wide > 0 || files < 300
	}' {} +
