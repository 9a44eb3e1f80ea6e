//go:build !linux

package keyfilter

func (s *Segment) allocate(n int) { s.blocks = make([]block, n) }
