package wire

// AppendDatagram appends the datagram that tells a host of the task number.
func AppendDatagram(dst []byte, number string) []byte {
	return append(dst, number...)
}

// ParseDatagram returns the task number that a datagram carries. An error wraps
// ErrAbnormal; the host then answers with RCC 3.
func ParseDatagram(b []byte) (number string, err error) {
	if len(b) > MaxDatagram {
		return "", abnormal("datagram of %d bytes, want at most %d", len(b), MaxDatagram)
	}
	if !ValidNumber(string(b)) {
		return "", abnormal("datagram %q is no task number", b)
	}
	return string(b), nil
}
