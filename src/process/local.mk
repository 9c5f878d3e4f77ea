noinst_LIBRARIES += src/libprocess.a
src_libprocess_a_SOURCES = \
	src/process/broker.c \
	src/process/broker.h \
	src/process/broker_client.c \
	src/process/broker_deaths.c \
	src/process/broker_enter.c \
	src/process/broker_message.c \
	src/process/broker_ops.c \
	src/process/broker_passed.c \
	src/process/broker_rings.c \
	src/process/broker_process.c \
	src/process/broker_slots.c \
	src/process/broker_spares.c \
	src/process/broker_spares.h \
	src/process/broker_tree.c \
	src/process/claim.c \
	src/process/claim.h \
	src/process/claim_deferred.c \
	src/process/claim_flows.c \
	src/process/claim_fork.c \
	src/process/claim_share.c \
	src/process/claim_spare.c \
	src/process/group.c \
	src/process/group.h \
	src/process/group_name.c \
	src/process/group_spare.c \
	src/process/privilege.c \
	src/process/privilege.h \
	src/process/spare_exec.c \
	src/process/spare_exec.h
