"""`python -m hf_encoders.embed`, for `accelerate launch`: the command `hf-encoders embed` on many processes."""

from ..commands.embed import main

if __name__ == "__main__":
    main()
