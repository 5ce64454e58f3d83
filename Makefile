# The same words as ./dev, for those who type make.
.PHONY: setup demo test check bench torture
setup demo test check bench torture:
	@./dev $@
