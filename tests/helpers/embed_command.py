"""`hf-encoders embed` as a script, for what stops a script."""

from hf_encoders.commands.embed import main

if __name__ == "__main__":
    main()
