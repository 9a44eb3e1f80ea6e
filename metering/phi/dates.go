package phi

var birthLabels = newLabels("dob", "birth", "birth-date", "birth-day", "born", "born-on", "date-of-birth")

// firstYear is when events begin: a day before it is no day of a bill.
const firstYear = 2000

// findBirthDate looks for dates that no bill has: a text that is nothing but a date, a
// date behind a word for birth, a day before firstYear, and the American form.
func findBirthDate(s string) bool {
	for i := 0; i < len(s); i++ {
		if isDigit(s[i]) {
			n := digitsAt(s, i)
			if n == 4 || n <= 2 && !isLetter(at(s, i-1)) {
				if d := dateAt(s, i); d.form != noDate && d.isBirth(s, i) {
					return true
				}
			}
			i += n - 1
			continue
		}
		if n := birthLabels.at(s, i); n > 0 {
			if j := i + n + gap(s, i+n); dateAt(s, j).form != noDate || monthFirstAt(s, j).form != noDate {
				return true
			}
		}
		if months.first[s[i]] && !isLetter(at(s, i-1)) {
			if d := monthFirstAt(s, i); d.form != noDate && d.isBirth(s, i) {
				return true
			}
		}
	}
	return false
}

// date is a date in a text, with a year from 1900 to 2099.
type date struct {
	form   form
	sep    byte
	year   int
	length int
}

type form int

const (
	noDate    form = iota
	compact        // 19610412
	yearFirst      // 1961-04-12, 1961/04/12, 1961-Apr-12
	yearLast       // 4/12/1961, 12.04.1961, 04-12-1961
	named          // 12 April 1961, April 12, 1961
)

// isBirth reports whether the date that stands at i says more than when something was
// billed.
func (d date) isBirth(s string, i int) bool {
	before, after := at(s, i-1), at(s, i+d.length)
	switch {
	case isDigit(after):
		return false
	case d.length == len(s):
		return true
	case d.form == yearFirst || d.form == named:
		return d.year < firstYear
	case isAlnum(before) || isAlnum(after):
		return false
	case d.year < firstYear:
		return !inRow(s, i, i+d.length, d.sep)
	}
	return d.sep == '/' && before != '/' && after != '/'
}

// dateAt reads a date whose first digit stands at i.
func dateAt(s string, i int) date {
	switch n := digitsAt(s, i); n {
	case 8:
		if y := num(s, i, 4); plausible(y, num(s, i+4, 2), num(s, i+6, 2)) {
			return date{compact, 0, y, 8}
		}
	case 4:
		sep := at(s, i+4)
		if sep != '-' && sep != '/' && sep != '.' {
			break
		}
		if digitsAt(s, i+5) == 2 && at(s, i+7) == sep && digitsAt(s, i+8) == 2 {
			if y := num(s, i, 4); plausible(y, num(s, i+5, 2), num(s, i+8, 2)) {
				return date{yearFirst, sep, y, 10}
			}
		}
		if m := monthAt(s, i+5); m > 0 && at(s, i+5+m) == sep {
			if k := digitsAt(s, i+6+m); k == 1 || k == 2 {
				if y := num(s, i, 4); plausible(y, 1, num(s, i+6+m, k)) {
					return date{yearFirst, sep, y, 6 + m + k}
				}
			}
		}
	case 1, 2:
		if d := dayFirstAt(s, i, n); d.form != noDate {
			return d
		}
		sep := at(s, i+n)
		if sep != '/' && sep != '.' && sep != '-' {
			break
		}
		m := digitsAt(s, i+n+1)
		if m < 1 || m > 2 || at(s, i+n+1+m) != sep || digitsAt(s, i+n+m+2) != 4 {
			break
		}
		a, b, y := num(s, i, n), num(s, i+n+1, m), num(s, i+n+m+2, 4)
		if plausible(y, a, b) || plausible(y, b, a) {
			return date{yearLast, sep, y, n + m + 6}
		}
	}
	return date{}
}

// dayFirstAt reads 12 April 1961 and its like, with n digits at i.
func dayFirstAt(s string, i, n int) date {
	j := i + n + ordinalAt(s, i+n)
	j += between(s, j)
	m := monthAt(s, j)
	if m == 0 {
		return date{}
	}
	j += m
	j += between(s, j)
	if digitsAt(s, j) == 4 && plausible(num(s, j, 4), 1, num(s, i, n)) {
		return date{named, 0, num(s, j, 4), j + 4 - i}
	}
	return date{}
}

// monthFirstAt reads April 12, 1961 and its like, with the month at i.
func monthFirstAt(s string, i int) date {
	m := monthAt(s, i)
	if m == 0 {
		return date{}
	}
	j := i + m
	j += between(s, j)
	n := digitsAt(s, j)
	if n != 1 && n != 2 {
		return date{}
	}
	day := num(s, j, n)
	j += n + ordinalAt(s, j+n)
	k := between(s, j)
	j += k
	if k > 0 && digitsAt(s, j) == 4 && plausible(num(s, j, 4), 1, day) {
		return date{named, 0, num(s, j, 4), j + 4 - i}
	}
	return date{}
}

var months = newLabels("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")

// monthAt is the length of a month's name at i, or of its first letters, at least
// three; 0 if there is none.
func monthAt(s string, i int) int {
	if !months.first[at(s, i)] {
		return 0
	}
	n := 0
	for n <= len("september") && isLetter(at(s, i+n)) {
		n++
	}
	if n < 3 {
		return 0
	}
	for _, m := range months.words {
		if n <= len(m) && hasFold(s, i, m[:n]) {
			return n
		}
	}
	return 0
}

// ordinalAt is the length of st, nd, rd or th at i.
func ordinalAt(s string, i int) int {
	if c := at(s, i) | 0x20; c != 's' && c != 'n' && c != 'r' && c != 't' {
		return 0
	}
	for _, o := range [...]string{"st", "nd", "rd", "th"} {
		if i < len(s) && hasFold(s, i, o) && !isLetter(at(s, i+2)) {
			return 2
		}
	}
	return 0
}

// between is how many separators, at most two, stand between the parts of a date.
func between(s string, i int) int {
	n := 0
	for n < 2 {
		switch at(s, i+n) {
		case ' ', '-', '/', '.', ',', '_', '+':
			n++
		default:
			return n
		}
	}
	return n
}

func plausible(year, month, day int) bool {
	return 1900 <= year && year < 2100 && 1 <= month && month <= 12 && 1 <= day && day <= 31
}
