package keyfilter

import (
	"runtime"
	"syscall"
	"unsafe"
)

// allocate gives the segment n empty blocks outside of the collector's heap, where it
// would let as much garbage lie as the filter is large. They are given back when the
// segment is gone: who uses them keeps the segment alive meanwhile.
func (s *Segment) allocate(n int) {
	m, err := syscall.Mmap(-1, 0, n*blockBits/8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil { // too many mappings, or a bound on them: the heap will do
		s.blocks = make([]block, n)
		return
	}
	s.blocks = unsafe.Slice((*block)(unsafe.Pointer(unsafe.SliceData(m))), n)
	runtime.AddCleanup(s, func(m []byte) { _ = syscall.Munmap(m) }, m)
}
