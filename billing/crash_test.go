package billing_test

const crashDir = "METE_TEST_CRASH_DIR"

func crashChild() int { return 0 }
