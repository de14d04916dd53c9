"""What Twisted keeps beside Python's own library: failures, the log, options, adapters."""
